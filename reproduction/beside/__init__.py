"""FedAsync beside other methods and other people's numbers, on Synthetic(1, 1).

``methods``    who is compared, and the settings that each may try
``runs``       the runs that this takes
``published``  numbers of others, and what it takes to meet them
``unmet``      numbers whose data are not at hand
``results``    what the runs came to, as a results file
``measures``   final accuracy, time to a target, intervals over seeds
``pictures``   curves
``tables``     what the methods came to
``others``     the numbers of others beside ours
``page``       ``docs/beside_others.md``
"""

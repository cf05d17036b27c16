"""The paper's figures and findings: which runs they need, and what these decide.

``scales``     how large its runs are
``figures``    the runs of every figure
``evidence``   what they came to, as a results file
``positions``  the unit: FedAvg is 0, single-thread SGD is 1
``claims``     regions, tests, Holm's correction
``findings``   the six findings, decided
``why``        what large staleness costs, and through what
``central``    the same network without any federation
``page``       ``docs/reproduction.md``
"""

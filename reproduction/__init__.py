"""The paper's figures and findings: which runs they need, and what these decide.

``scales``     how large its runs are
``figures``    the runs of every figure
``evidence``   what they came to, as a results file
``findings``   the six findings, decided
``central``    the same network without any federation
``page``       ``docs/reproduction.md``
"""

"""The benchmark against other registration programs: a cohort with a row for each method on each case.

    PYTHONPATH=Testing/benchmarks python -m comparison --output out

A case (`cases.py`) is two volumes and a truth. A method (`methods.py`) gets the volumes and a starting affine, the
same for all, and gives one transform. Each is a pair of the cohort (`trial.py`), which has a process of its own
(`runner.py`) that never sees the truth; what it gave is measured by `measure.py` and kept in the pair's folder.
Tables are made from these folders alone; plots are those of the cohort's page.
"""

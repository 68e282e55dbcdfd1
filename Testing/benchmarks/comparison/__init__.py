"""The benchmark against other registration programs: methods x cases to records, tables and plots.

    PYTHONPATH=Testing/benchmarks python -m comparison --output out

A case (`cases.py`) is two volumes and a truth. A method (`methods.py`) gets the volumes and a starting affine, the
same for all, and gives one transform. It runs in a process of its own (`runner.py`), which never sees the truth; what
it gave is measured by `measure.py` and kept as one record. Tables, plots and goals are made from the records alone.
"""

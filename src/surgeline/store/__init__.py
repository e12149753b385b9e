"""Runs at rest: what is written while a run lasts, what it becomes when it ends, and how it is found again.

    journal.py    segments that processes append frames to while a run lasts, and readers of them
    rundir.py     a run directory: made, held while it is written, ended, closed, recovered, and read
    parquet.py    the journal as Parquet files, and back
    index.py      which runs there are, which is the last one, and the baselines
    errors.py     everything that can go wrong here, each with one sentence

Nothing else opens a database or writes into a run directory. Importing the package or `journal` loads neither numpy nor
a database: a writer may live in a process of the user's.
"""

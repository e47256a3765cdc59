"""Random SQL programs against a running tailer: `program.py` makes one, `ledger.py` says what must come, `lab.py` runs it."""

"""The command line: `asynq-ttl X` is in `cli/X.py`, and is imported only when it is asked for.

The only importer of click. May import everything below.
"""

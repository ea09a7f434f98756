"""What Asynq writes into Redis: its keys, its messages, its tasks, and what its scripts do.

Pure. May import `times`.
"""

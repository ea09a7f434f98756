"""A command in, a command out: the scripts learnt so far, their wrappers, and what a call of one becomes.

Pure. May import `events`, `asynq`, `policy`, `lua` and `wire`.
"""

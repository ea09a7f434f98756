"""Removes what is due from index and keyspace together, heals indexes, and hands tasks to a sink before they go.

On connections of its own, beside the data path. May import `events`, `asynq`, `policy`, `upstream`, `lua`, `times`.
"""

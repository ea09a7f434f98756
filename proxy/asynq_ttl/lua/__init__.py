"""Our Lua texts, by who runs them, and their one loader.

`wrappers/` stands around Asynq's scripts, `sweep/` is the sweeper's, `existing_keys/` the tools', `shared/` belongs to
more than one of them. Imports nothing of ours.
"""

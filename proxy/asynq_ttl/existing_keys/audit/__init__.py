"""`asynq-ttl audit`: what is in a database, what is wrong with it, and what a policy would leave of it.

Imports from `existing_keys` what reads a database, and nothing of the other tools.
"""

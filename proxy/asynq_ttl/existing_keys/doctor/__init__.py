"""`asynq-ttl doctor`: whether server, rights, clients, clocks and policy are as the sidecar needs them.

Imports from `existing_keys` what reads a database, and nothing of the other tools.
"""

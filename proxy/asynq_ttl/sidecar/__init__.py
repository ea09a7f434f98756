"""One running sidecar: its settings, its parts put together, the policy in force, start and stop.

Serves the admin server in `sidecar/admin`. May import everything below, and nothing of the command line or the tools.
"""

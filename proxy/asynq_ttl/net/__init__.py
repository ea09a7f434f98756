"""Sockets: addresses, listeners, TLS, keep-alive, and what systemd hands over and is told.

Knows nothing of Redis's protocol or of Asynq. Imports nothing of ours.
"""

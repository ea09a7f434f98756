"""Moves bytes between clients and Redis: two sockets for each client, back-pressure, refusals, drain.

What is sent is decided in `session`; here nobody reads a command. May import `session`, `upstream`, `events` and
the rows below.
"""

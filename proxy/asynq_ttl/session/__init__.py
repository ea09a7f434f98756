"""One client's conversation: what goes on to Redis for what came in, and which reply answers which decision.

No I/O and no clock of its own: bytes in, bytes out, and `events` for those who are told. May import `rewriting` and
the rows below.
"""

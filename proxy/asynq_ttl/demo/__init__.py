"""`asynq-ttl demo`: real Asynq through a sidecar, and a table of what got which TTL.

Stands beside the sidecar, which it starts as a process; may import everything below `cli` except `sidecar`.
"""

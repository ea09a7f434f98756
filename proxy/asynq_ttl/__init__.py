"""asynq-ttl: a RESP sidecar that gives Asynq's terminal tasks a TTL by policy."""

"""asynq."""

-- Holds the task on in the archive. Argument: what its hash says of the hold.
asynq_ttl_hold_on(KEYS[index_key], KEYS[task_key], ARGV[id_arg], ...)

"""What is decided: rules, which of them applies, what follows for a task, and the same in words.

Pure: no file, no clock, no Redis. May import `asynq` and `times`.
"""

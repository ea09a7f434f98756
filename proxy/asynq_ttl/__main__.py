"""Where `asynq-ttl` begins."""

from asynq_ttl.cli.main import main

if __name__ == "__main__":
    main()

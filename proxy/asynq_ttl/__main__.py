"""Where `asynq-ttl` begins: probes and hooks without the cost of importing the sidecar, everything else by `cli`."""

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] in (["ready"], ["drain"]):
        from asynq_ttl.lifecycle import main as run  # noqa: PLC0415 - either is imported, never both
    else:
        from asynq_ttl.cli import main as run  # noqa: PLC0415
    run()


if __name__ == "__main__":
    main()

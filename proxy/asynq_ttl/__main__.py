"""Where `asynq-ttl` begins."""

import signal

from asynq_ttl.cli.hidden_arguments import hide
from asynq_ttl.cli.standard_output import open_closed_streams


def main() -> None:
    """Run the command line in a process of its own. Ctrl-C while it is imported just ends that, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    open_closed_streams()
    hide()
    from asynq_ttl.cli import main as command_line  # noqa: PLC0415 - see above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line.main(obj=command_line.OWN_PROCESS)


if __name__ == "__main__":
    main()

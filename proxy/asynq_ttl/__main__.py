"""Where `asynq-ttl` begins."""

# Both are the interpreter's own: they take no time to import.
import _signal  # type: ignore[import-not-found] # it has no stub
import sys

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C while all else is imported just ends that, without a traceback


def main() -> None:
    """Run the command line in a process of its own."""
    from asynq_ttl.cli.hidden_arguments import hide  # noqa: PLC0415 - see above

    hide()
    from asynq_ttl.cli.standard_output import open_closed_streams  # noqa: PLC0415 - it imports click

    open_closed_streams()
    from asynq_ttl.cli import main as command_line  # noqa: PLC0415 - see above

    if sys.argv[1:2] != ["serve"]:  # it heeds signals by itself, from when there is something to end
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    command_line.main(obj=command_line.OWN_PROCESS)


if __name__ == "__main__":
    main()

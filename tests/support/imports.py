"""What a command of `asynq-ttl` imports."""

import subprocess
import sys


def telling(*arguments: str, main: str = "asynq_ttl.__main__") -> list[str]:
    """Return a program that runs `asynq-ttl` and prints, at last, the modules that this has imported.

    Args:
        arguments: those of `asynq-ttl`.
        main: the module whose `main` is run. `asynq_ttl.cli.main` does not start itself again to hide an argument.
    """
    code = (
        f"import sys; sys.argv = {['asynq-ttl', *arguments]!r}; before = set(sys.modules)\n"
        f"from {main} import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules.keys() - before)"
    )
    return [sys.executable, "-c", code]


def imported_by(*arguments: str) -> set[str]:
    """Run `asynq-ttl` with arguments in a process of its own; return the names of the modules it has imported."""
    run = subprocess.run(telling(*arguments), capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())

"""What a command of `asynq-ttl` imports."""

import subprocess
import sys


def imported_by(*arguments: str) -> set[str]:
    """Run `asynq-ttl` with arguments in a process of its own; return the names of the modules it has imported."""
    code = (
        f"import sys; sys.argv = {['asynq-ttl', *arguments]!r}\n"
        "from asynq_ttl.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())

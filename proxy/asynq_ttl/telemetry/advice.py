"""What a log line says of a command that failed open: what happened to which script and queue, and what to do.

Invariant: nothing of the command is in it but its queue and the SHA of its script.
"""

from asynq_ttl.events import FailedOpen, FailOpen

_REPORT = "report it with this line"
_SHOW_SCRIPT = "open an issue with the script (`asynq-ttl doctor --admin` shows which one)"
_ADVICE = {
    FailOpen.MESSAGE: "find out who writes such messages",
    FailOpen.ARGUMENTS: _SHOW_SCRIPT,
    FailOpen.PREFIX: "leave it, or give Asynq's own prefix to that program: tasks under another one are not handled",
    FailOpen.POLICY: _REPORT,
    FailOpen.UNSEEN: "nothing: it is rewritten as soon as any client sends its text",
    FailOpen.INTERNAL: _REPORT,
    FailOpen.SHAPE: _SHOW_SCRIPT,
    FailOpen.SCRIPTS: "find out which program makes up scripts; a restart forgets them",
    FailOpen.COMPILE: "see the line about `stays unwrapped`, and report it",
    FailOpen.ACTIVATION: "check that Redis answers, and the credentials and rights in --upstream",
    FailOpen.SIZE: "smaller payloads, or a larger --max-held-mib",
}


def named(failure: FailedOpen) -> str:
    """Return what failed open, in words: its script and queue, as far as they are known."""
    what = f"{failure.kind or 'unknown'} script {failure.sha}" if failure.sha else "a command"
    return f"{what} of queue {failure.queue}" if failure.queue else what


def advice_on(reason: FailOpen) -> str:
    """Return what to do about it."""
    return _ADVICE[reason]

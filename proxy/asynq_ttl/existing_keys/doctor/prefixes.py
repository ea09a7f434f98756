"""Whether a fork of Asynq with a prefix of its own has tasks here. Changes nothing."""

from collections.abc import Iterator

from asynq_ttl.asynq.keys import PREFIX, text_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.existing_keys.foreign_prefixes import MOST_KEYS

_SHOWN = 10


def check(database: Database) -> Iterator[Finding]:
    """Name the prefixes of tasks that nobody here handles."""
    found = database.foreign_prefixes()
    among = "" if found.whole else f" among about {MOST_KEYS:,} keys that were looked at"
    if not found.seen:
        yield Finding("prefix", Severity.FINE, f"no task has a key with another prefix than Asynq's{among}", "", "")
        return
    yield Finding(
        "prefix",
        Severity.WARNING,
        f"tasks of a fork of Asynq have keys with a prefix of its own{among}",
        f"sidecar, sweeper and tools know keys that begin with {text_of(PREFIX)} alone: such tasks get no TTL, and "
        "nothing else that is said here is about them",
        "have the fork use Asynq's prefix, or do without TTLs for its tasks",
        sum(found.seen.values()),
        [f"{prefix}: {count:,}" for prefix, count in list(found.seen.items())[:_SHOWN]],
    )

"""How a queue's archive is trimmed, as plain data. Pure; what it comes to for a policy, `rules` says."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How a queue's archive is trimmed when something is archived.

    Attributes:
        cutoff_seconds: the age past which no rule keeps a task; None where one keeps for ever.
        cutoff_own: Asynq's own age applies to some of the queue's tasks, so it is a lower bound.
        cap: the most entries kept, newest first; None for Asynq's own cap.
        uncapped: a rule keeps every task for ever, so nothing is trimmed by number unless `cap` is set.
        spare_untimed: entries whose key has no TTL are kept for ever by a rule: trimming passes over them.
    """

    cutoff_seconds: int | None
    cutoff_own: bool
    cap: int | None
    uncapped: bool
    spare_untimed: bool

    def outlasts(self, own_seconds: int) -> bool:
        """Say whether some rule keeps tasks of the queue for longer than Asynq itself would."""
        return self.cutoff_seconds is None or self.cutoff_seconds > own_seconds


class HandoverCap(NamedTuple):
    """How many tasks an archive keeps where its oldest ones are handed over.

    Attributes:
        most: this many, newest first.
        spare_untimed: as for `ArchiveLimits`.
    """

    most: int
    spare_untimed: bool

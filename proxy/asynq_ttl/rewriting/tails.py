"""What wrappers are told: how long a task's key lives, how the archive is trimmed, whose clock to go by. Pure.

The numbers are text that Lua hands on to Redis as it is. What is the same for all tasks of a call is worked out here.
"""

from asynq_ttl.events import FailOpen
from asynq_ttl.policy.archive_limits import ArchiveLimits
from asynq_ttl.policy.rules import Policy, Retention
from asynq_ttl.rewriting.call import Call, NotUnderstood

# For the milliseconds that a key lives: for ever; and as it is, since no rule gives a time, and the wrapper only heals.
FOREVER = 0
ONLY_HEAL = -2
_NOT_AT_ALL = -1

# The largest number of milliseconds that Lua's numbers carry exactly.
_MAX_MILLISECONDS = 2**53


def milliseconds(retention: Retention, own_seconds: int, grace_seconds: int) -> int:
    """Return how long a task's key lives: its retention and the grace; 0 for ever, -1 not at all.

    Raises:
        NotUnderstood: Lua would not carry the number.
    """
    kept_seconds = retention.resolve(own_seconds)
    if not kept_seconds:
        return FOREVER if kept_seconds is None else _NOT_AT_ALL
    found = (kept_seconds + grace_seconds) * 1000
    if found > _MAX_MILLISECONDS:
        raise NotUnderstood(FailOpen.ARGUMENTS, f"a retention of {kept_seconds} seconds")
    return found


def by_clock(call: Call, now: int) -> bytes:
    """Return what stands before a wrapper's argument: nothing, or, where Redis's time may be another, to ask for it.

    Args:
        call: the call.
        now: the time that the caller has.
    """
    return b"" if call.script.clock.agrees(now) else b"?%d " % now


def trims(policy: Policy, limits: ArchiveLimits, now: int, own_seconds: int, own_cap: int) -> bytes:
    """Return how the archive is trimmed, for the wrapper.

    Its words are: the score up to which it is trimmed (`-` for none); by which ranks entries are too many, as
    two words (`-` each for any number); 1 to spare those without a TTL; the grace in seconds.

    Args:
        policy: the policy.
        limits: what it says about the queue's archive.
        now: when the task died.
        own_seconds: for how long Asynq keeps archived tasks.
        own_cap: how many of them it keeps.
    """
    age, cap = trim_age(limits, own_seconds), most_kept(policy, limits, own_cap)
    return (b"-" if age is None else b"%d" % (now - age)) + trims_by_number(policy, limits, cap)


def trim_age(limits: ArchiveLimits, own_seconds: int) -> int | None:
    """Return how old what is trimmed is at least, in seconds; None where nothing is trimmed by age."""
    if limits.cutoff_seconds is None:
        return None
    return max(limits.cutoff_seconds, own_seconds) if limits.cutoff_own else limits.cutoff_seconds


def most_kept(policy: Policy, limits: ArchiveLimits, own_cap: int) -> int:
    """Return the most entries that an archive keeps; -1 for any number."""
    if limits.cap is None:
        return -1 if limits.uncapped else own_cap
    # Tasks outside the rollout's share live by Asynq's own cap.
    return limits.cap if policy.enforces_all else -1 if own_cap < 0 else max(limits.cap, own_cap)


def trims_by_number(policy: Policy, limits: ArchiveLimits, cap: int) -> bytes:
    """Return what follows the score in the words of `trims`; `cap` is as of `most_kept`."""
    return _by_number(cap, policy.grace_seconds, spare=limits.spare_untimed)


def own_trims(call: Call, now: int, own_seconds: int, own_cap: int, grace_seconds: int, *, by_age: bool) -> bytes:
    """Return how the archive is trimmed as the script itself would do it.

    Args:
        call: the call.
        now, own_seconds, own_cap: as for `trims`.
        grace_seconds: that of the policy.
        by_age: whether what is too old goes here, and not by the sweeper.
    """
    cutoff = b"%d" % (now - own_seconds) if by_age and call.shape.cutoff_arg else b"-"
    return cutoff + _by_number(own_cap, grace_seconds)


def _by_number(cap: int, grace_seconds: int, *, spare: bool = False) -> bytes:
    """Return what follows the score in the words of `trims`: `cap` is the most entries kept, -1 for any number."""
    # As ranks from the end: of the oldest entry where there is one too many, and of the one before it.
    ranks = b"- -" if cap < 0 else b"-%d -%d" % (cap + 2, cap + 1)
    return b" %b %d %d" % (ranks, spare, grace_seconds)

"""Redis's clock, as far as it is known without asking. Pure: whoever asks Redis for its time tells it here.

Wrappers go by Redis's clock where the caller's does not agree with it. To ask for it in each script costs Redis more
than to set a TTL, so the sidecar tells the wrapper to ask only where it does not know that they agree.

Invariants:

* Where it is said that a time agrees, Redis's clock is past it, and by less than `_MOST_SECONDS`; unless Redis's clock
  has been set since it was last read, which is at most `_LASTS_SECONDS` ago.
* Only differences of a monotonic clock are used: that of the sidecar's host may be set at any time.
* Each node of a cluster has a clock of its own.
"""

from collections.abc import Callable

# A wrapper does nothing about a caller that is ten seconds behind. What is left is for the way to Redis.
_MOST_SECONDS = 8
_LASTS_SECONDS = 3.0


class RedisClock:
    """When it is on the clock of one Redis; unknown at first."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know nothing: it may be another Redis from now on."""
        self.known: tuple[Callable[[], float], float, float, float] = (float, 0.0, 0.0, 0.0)
        """What reads a monotonic clock; until when, by it, the rest holds; and by how many seconds Redis's clock is
        before it, at least and at most. (`_remembered.h` looks at it too.)"""

    def note(self, seconds: float, asked: float, answered: float, elapsed: Callable[[], float]) -> None:
        """Take note of a time that Redis has told.

        Args:
            seconds: Redis's time, Unix seconds.
            asked: when it was asked for, by `elapsed`.
            answered: when the answer was there.
            elapsed: reads a monotonic clock.
        """
        self.known = (elapsed, answered + _LASTS_SECONDS, seconds - answered, seconds - asked)

    def agrees(self, now: int) -> bool:
        """Say whether a caller's time, in whole seconds, is certain to be the one by which Redis goes, or just past."""
        elapsed, until, least, most = self.known
        at = elapsed()
        return at < until and now <= at + least and at + most < now + _MOST_SECONDS

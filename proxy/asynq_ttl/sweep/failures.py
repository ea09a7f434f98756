"""What Redis refuses at one place does not stop the sweeper elsewhere.

Invariants:

* A refusal at one place (a database, an index, a list) ends the work at that place, and at no other.
* A place is named in the log when it begins to fail, and not again as long as it fails in every round.
* A Redis that cannot be reached, or takes no writes, is not the fault of a place: that ends the round.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ReadOnlyError, ResponseError

_log = logging.getLogger("asynq_ttl.sweeper")

# So many failing places are named; more are only counted.
_NAMED = 100


class Failures:
    """The places at which rounds fail."""

    def __init__(self) -> None:
        self._before: set[str] = set()
        self._now: dict[str, str] = {}
        self._count = 0

    @contextmanager
    def kept_to(self, place: str) -> Iterator[None]:
        """Note what Redis refuses inside, instead of raising it."""
        try:
            yield
        except ReadOnlyError:
            raise
        except ResponseError as error:
            self._count += 1
            if len(self._now) < _NAMED and place not in self._now:
                self._now[place] = str(error)
                if place not in self._before:
                    _log.warning("%s cannot be swept, the rest is: %s", place, error)

    def end_round(self) -> str:
        """Return what failed in the round, in a few words; empty if nothing did."""
        now, count = self._now, self._count
        self._before, self._now, self._count = set(now), {}, 0
        if not count:
            return ""
        place, error = next(iter(now.items()))
        return f"{count} refusals, the first at {place}: {error}"

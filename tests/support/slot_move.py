"""A slot of a cluster on its way from one node to another: its keys, moved as whoever moves it likes."""

from collections.abc import Iterable
from dataclasses import dataclass

import redis as redis_py


@dataclass(frozen=True, slots=True)
class Move:
    """A slot on its way: a client of the node that it leaves, and the address and password of the one it goes to."""

    slot: int
    giving: "redis_py.Redis"
    target: tuple[str, int]
    password: str

    def keys(self, most: int) -> list[str]:
        """Return keys that have not moved yet."""
        found: list[str] = self.giving.execute_command("CLUSTER GETKEYSINSLOT", self.slot, most)
        return found

    def take(self, keys: Iterable[str]) -> None:
        """Move keys, all in one step."""
        password = ("AUTH", self.password) if self.password else ()
        self.giving.execute_command("MIGRATE", *self.target, "", 0, 5000, *password, "KEYS", *keys)

"""Which database a connection is in, and which ones clients use. Pure.

Invariants:

* Commands after a SELECT count as sent to the database it asks for. If Redis refuses it, those that follow the refusal
  count as sent to the one before.
* A database that Redis has refused is not among those that clients use. Where the reply does not tell (in a
  transaction, or where replies cannot be assigned to commands), it is.
"""

# Databases that are remembered for the sweeper. (Security limit; Redis has 16 unless configured otherwise.)
MAX_DATABASES = 256


class Selected:
    """The database of one connection.

    Args:
        number: the one that it starts with.
        used: the numbers of those that clients use; grows.
    """

    __slots__ = ("_asked", "_chosen", "_used", "number")

    def __init__(self, number: int, used: set[int]) -> None:
        self.number = number
        """The number of the database that the next command goes to."""
        self._used = used
        # The database that Redis is in by what it has answered, and those that it has been asked for since.
        self._chosen = number
        self._asked: list[int] = []

    def ask(self, number: int) -> None:
        """Take note that a database is asked for; each has to be answered."""
        self.number = number
        self._asked.append(number)

    def answer(self, number: int, reply: bytes) -> None:
        """Take note of what Redis replied.

        Args:
            number: the database that was asked for.
            reply: the first line of the reply; empty where it cannot be told.
        """
        self._asked.pop(0)
        if not reply.startswith((b"-", b"!")):
            self._chosen = number
            if len(self._used) < MAX_DATABASES:
                self._used.add(number)
        self.number = self._asked[-1] if self._asked else self._chosen

"""Walks through all keys of a cluster: one master after the other, each once, and only through what is settled there.

Invariant: a slot that was not at one master all the time while that was walked through is named, or its queues are. So
who hears of none has met every key that was there all the time.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from asynq_ttl.asynq.keys import queue_of_key, queue_prefix, text_of
from asynq_ttl.existing_keys.cluster.masters import Master, Masters
from asynq_ttl.existing_keys.cluster.walk import Slots, Stage, parse_stage, ranges_of
from asynq_ttl.existing_keys.database import Cursor
from asynq_ttl.existing_keys.left_out import LeftOut
from asynq_ttl.wire.cluster.slots import slot_of


class Keyspace:
    """All keys of a cluster.

    Args:
        masters: its masters, once they are found.
        left_out: where it is noted what cannot be walked through.
    """

    def __init__(self, masters: Masters, left_out: LeftOut) -> None:
        self._masters = masters
        self._left_out = left_out
        self._queues: list[str] = []
        self._walked: set[str] = set()
        self._stage: tuple[Cursor, Stage | None] = (0, None)

    def know(self, queues: list[str]) -> None:
        """Take note of the names of the queues."""
        self._queues = queues

    def scan(self, cursor: Cursor, *, match: bytes, count: int) -> tuple[Cursor, list[bytes]]:
        """Take a step through the keys of one master; only those of slots that are settled count."""
        stage = self._at(cursor)
        while stage is not None:
            master = self._masters.with_id(stage.node)
            answer: Any = None
            if master is not None:
                answer = self._masters.at(master, partial(master.client.scan, stage.scan, match=match, count=count))
            if master is None or answer is None:
                stage = self._next_part(stage.done)
                continue
            keys = [key for key in answer[1] if self._counts(key, master, stage.slots)]
            if int(answer[0]):
                return self._remember(replace(stage, scan=int(answer[0]))), keys
            return self._remember(self._next_part(stage.done | self._walked_through(master, stage))), keys
        return 0, []

    def holds(self, cursor: Cursor) -> bool:
        """Say whether a walk can go on at a cursor: the node that gave it still is what it was, or none has begun."""
        return begins_part(cursor) or self._goes_on(parse_stage(str(cursor)))

    def _at(self, cursor: Cursor) -> Stage | None:
        """Return where the walk stands; at a node that is not what it was, its part begins anew."""
        if not cursor:
            self._walked = set()
            return self._next_part(frozenset())
        if self._stage[0] == cursor:
            return self._stage[1]
        stage = parse_stage(str(cursor))
        if stage.scan and self._goes_on(stage):
            self._walked = {stage.node}
            return stage
        self._walked = set()
        return self._next_part(stage.done)

    def _goes_on(self, stage: Stage) -> bool:
        master = self._masters.with_id(stage.node)
        return master is not None and master.run == stage.run

    def _remember(self, stage: Stage | None) -> Cursor:
        cursor: Cursor = 0 if stage is None else str(stage)
        self._stage = (cursor, stage)
        return cursor

    def _next_part(self, done: Slots) -> Stage | None:
        """Return the beginning of the next part; None where there is none: then what is missing is named."""
        for master in self._masters.readable():
            slots = master.settled - done
            if slots and master.id not in self._walked:
                self._walked.add(master.id)
                return Stage(0, master.id, master.run, slots, done)
        self._name_missing(frozenset().union(*(master.slots for master in self._masters.readable())) - done)
        return None

    def _walked_through(self, master: Master, stage: Stage) -> Slots:
        """Return the slots of a part that were at its master all the time."""
        self._masters.at(master, master.look)
        return stage.slots & master.settled if not master.fault and master.run == stage.run else frozenset()

    def _name_missing(self, slots: Slots) -> None:
        """Name the queues whose slots were not walked through; where none is known there, the slots."""
        known = [queue for queue in self._queues if slot_of(queue_prefix(queue)) in slots]
        for queue in known:
            self._left_out.add_moving(queue)
        rest = slots - {slot_of(queue_prefix(queue)) for queue in known}
        if rest:
            self._left_out.add_moving(f"slots {ranges_of(rest)}")

    def _counts(self, key: bytes, master: Master, slots: Slots) -> bool:
        """Say whether a key is walked through here. One whose slot is on its way from here is named."""
        slot = slot_of(key)
        if slot in slots:
            return True
        if slot in master.slots - master.settled:
            self._left_out.add_moving(named(key))
        return False


def begins_part(cursor: Cursor) -> bool:
    """Say whether a cursor is at the beginning of what one master has."""
    return not cursor or str(cursor).startswith("0 ")


def named(key: bytes) -> str:
    """Return how a key that is left out is named: by its queue, if it has one."""
    return queue_of_key(key) or text_of(key)

"""Asks each Sentinel that the URL names once, and checks their answers. Changes nothing.

A sidecar asks only the Sentinels in its URL, and believes the majority of them. So it matters how many there are,
whether they agree, and whether they have a replica to promote.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.net.address import Address


@dataclass(frozen=True, slots=True)
class Answer:
    """What a Sentinel says.

    Attributes:
        sentinel: who was asked.
        master: where the master is; None where the Sentinel does not say.
        replicas: how many replicas the master has.
        others: how many other Sentinels it knows.
        failure: why it does not say where the master is; empty where it does.
    """

    sentinel: Address
    master: Address | None = None
    replicas: int = 0
    others: int = 0
    failure: str = ""


def ask(sentinel: Address, client: Redis, master: str) -> Answer:
    """Ask a Sentinel about a master."""
    try:
        place: Any = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", master)
        if place is None:
            return Answer(sentinel, failure=f"it does not know {master}")
        known: Any = client.execute_command("SENTINEL MASTER", master)
    except (RedisError, OSError) as error:
        return Answer(sentinel, failure=" ".join(str(error).split()) or type(error).__name__)
    host, port = (part.decode() if isinstance(part, bytes) else str(part) for part in place)
    return Answer(sentinel, Address(host, int(port)), int(known["num-slaves"]), int(known["num-other-sentinels"]))


def check(answers: Sequence[Answer], database: Redis) -> Iterator[Finding]:
    """Check the answers of all Sentinels in the URL, and whether the master takes writes that no replica gets.

    Args:
        answers: one for each.
        database: a client of the master.
    """
    helping = [answer for answer in answers if answer.master is not None]
    places = sorted({str(answer.master) for answer in helping})
    away = [f"{answer.sentinel}: {answer.failure}" for answer in answers if answer.failure]
    if away:
        what = f"{len(away)} of the {len(answers)} Sentinels in the URL do not help"
        why = "a failover needs the majority of them, and a sidecar that starts asks them where the master is"
        yield Finding("sentinels-away", Severity.WARNING, what, why, "see to them, or correct the URL", examples=away)
    if len(places) > 1:
        what = f"the Sentinels name different masters: {', '.join(places)}"
        yield Finding("sentinels-disagree", Severity.WARNING, what, "a failover is under way", "try again in a minute")
    known = max((answer.others + 1 for answer in helping), default=0)
    if known > len(answers):
        what = f"the URL names {len(answers)} of {known} Sentinels"
        why = "the sidecar asks only these; it does not notice a failover while none of them answers"
        yield Finding("sentinels-unnamed", Severity.NOTICE, what, why, "name all of them")
    replicas = max((answer.replicas for answer in helping), default=0)
    if helping and not replicas:
        why = "if the master dies there is nothing to fail over to"
        yield Finding("sentinels-replica", Severity.WARNING, "the master has no replica", why, "add one")
    yield from _replication(database)
    if helping and not away and len(places) == 1:
        what = f"{len(answers)} Sentinels say that the master is {places[0]}, with {replicas} replicas"
        yield Finding("sentinels", Severity.FINE, what, "", "")


def _replication(database: Redis) -> Iterator[Finding]:
    try:
        found: Any = database.config_get("min-replicas-to-write")
    except ResponseError:
        return  # most users have no right to ask that
    if int(found.get("min-replicas-to-write", 1)) == 0:
        what = "the master takes writes that no replica gets (min-replicas-to-write is 0)"
        why = "a master that is cut off from the Sentinels goes on taking tasks, and they are gone after the failover"
        advice = "set min-replicas-to-write 1 and a low min-replicas-max-lag, with two replicas or more"
        yield Finding("replication", Severity.NOTICE, what, why, advice)

"""What the sidecar's own user may not do, said in one line as soon as Redis answers.

Much of what is denied inside a script is passed over there, so that a task can move: nobody would notice. So each
command that is needed is tried once, on a key that does not exist, as `doctor` does.

Invariants:

* Trying changes nothing in Redis, and keeps nobody waiting.
* What cannot be tried now is tried again; what is missing is said once.
"""

import asyncio
import logging
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from asynq_ttl.existing_keys import needed_rights
from asynq_ttl.existing_keys.needed_rights import ASYNQ_KEYS, OWN_KEYS, attempt, rules_of
from asynq_ttl.existing_keys.refused import probe_key, refused_of
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.rights")

_AGAIN_SECONDS = 1.0
_SECONDS = 5.0
_OWN_KEY = b"asynq-ttl:probe"


def needs(settings: Settings) -> list[needed_rights.Need]:
    """Return what the sidecar's own user needs with these settings."""
    found = [needed_rights.CONTROL, needed_rights.SPANS]
    if settings.sweep_seconds > 0:
        found += [needed_rights.SWEEPER, needed_rights.LOCK]
    if settings.sink is not None:
        found.append(needed_rights.SINK)
    if settings.upstream.sentinels:
        found.append(needed_rights.BEHIND_SENTINELS)
    if settings.access.logs_in:  # clients are logged in as this user too
        found.append(needed_rights.WRAPPERS)
    return found


async def tell_missing(endpoint: Endpoint, settings: Settings) -> None:
    """Say what is missing, once Redis answers; then do nothing more."""
    wanted = needs(settings)
    while True:
        client = endpoint.redis(max_connections=1, client_name="asynq-ttl-rights")
        try:
            async with asyncio.timeout(_SECONDS):
                rules = await missing(client, wanted, settings.upstream.database)
            break
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(_AGAIN_SECONDS)  # the control connection says why
        finally:
            await asyncio.shield(client.aclose())  # also where this is cancelled
    if rules:
        _log.warning("the user in --upstream has not all the rights it needs: give it %s", rules)
    await asyncio.Event().wait()


async def missing(client: Redis, wanted: Sequence[needed_rights.Need], database: int) -> str:
    """Return the rules of an ACL that are missing; empty where none is.

    Args:
        client: logged in as the user.
        wanted: what the user needs.
        database: the number of a database it uses.

    Raises:
        RedisError: Redis cannot be reached.
    """
    rules: list[str] = []
    for keys, key in ((ASYNQ_KEYS, probe_key(None)), (OWN_KEYS, _OWN_KEY)):
        commands = sorted({command for need in wanted if need.keys == keys for command in need.commands})
        answers = [(command, await _answer(client, attempt(command, key, database))) for command in commands]
        refused = refused_of(answers)
        rules += rules_of(refused.denied).split()
        # A user may well have some queues only; the lock has one name.
        if keys == OWN_KEYS and refused.keys:
            rules.append(f"~{keys}")
    return " ".join(dict.fromkeys(rules))


async def _answer(client: Redis, words: Sequence[bytes | str]) -> object:
    try:
        return await client.execute_command(*words)
    except ResponseError as error:
        return error

"""Where commands go, held against what servers say of their commands (`COMMAND`)."""

from collections.abc import Iterator
from typing import Any

import pytest

from asynq_ttl.session.routing.destinations import first_key
from support.servers import start_path_redis, start_redis, start_valkey

# Of these `COMMAND` says that their keys move; where they are is in `test_destinations` of the unit tests.
MOVABLE = (
    b"EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO BLMPOP BZMPOP LMPOP MSETEX SINTERCARD ZDIFF ZINTER ZINTERCARD "
    b"ZMPOP ZUNION XREAD XREADGROUP MIGRATE MEMORY"
).split()
# A server says that it has no key; it is a test of a data structure.
INTERNAL = (b"PFSELFTEST", b"STRALGO")


def leaves(commands: list[Any]) -> Iterator[tuple[list[bytes], int, bool]]:
    """Yield commands as long as they must be, the place of their first key, and whether that moves."""
    for name, arity, flags, first, _last, _step, *more in commands:
        subcommands = more[3] if len(more) > 3 else []
        if subcommands:
            yield from leaves(subcommands)
        else:
            words = bytes(name).upper().split(b"|")
            words += [b"arg%d" % place for place in range(len(words), max(abs(arity), first + 1))]
            yield words, first, not first and any(b"movablekeys" in flag for flag in flags)


@pytest.mark.parametrize("start", [start_redis, start_path_redis, start_valkey])
def test_the_first_key_is_where_the_server_says(start: Any) -> None:
    """For each command that it has, and each subcommand."""
    with start() as server, server.client() as client:
        client.response_callbacks.clear()
        seen = 0
        for words, first, moves in leaves(client.execute_command("COMMAND")):
            if words[0] in INTERNAL:
                continue
            seen += 1
            if moves:
                assert words[0] in MOVABLE, words
                continue
            assert first_key(words) == (words[first] if first else None), words
        assert seen > 200

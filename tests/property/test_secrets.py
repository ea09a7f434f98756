"""Property: whatever is typed, no piece of a secret is in what the command line says or in what it makes of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynq_ttl.cli import serve as serving
from asynq_ttl.cli.main import main

SECRETS = st.lists(st.sampled_from(["QXZ", "ZJQ", "0124", *"/@:#?%[]&=,;+\\ \"'"]), min_size=3, max_size=9).map("".join)
"""Passwords in which every character that means something in a URL is likely. No message has one of the pieces."""
PIECES = ("QXZ", "ZJQ", "0124")
URLS = (
    *("redis://:{}@h:6379/0", "redis://me:{}@h:6379/0", "redis://{}@h:6379/0", "rediss://:{}@[::1]:6379/0"),
    *("redis://:{}@h:6379,h:6380/0", "redis://:{}@:6379", "redis://:{}@h:x", "REDIS://:{}@h", "redis:/:{}@h"),
    *("unix://:{}@/tmp/redis.sock", "unix:///tmp/redis.sock?password={}&db=x", "rediss://me:{}@h?ssl_keyfile=k"),
    *("redis+sentinel://:{}@h:26379,h:26380/main/0", "redis+sentinel://:{}@h:26379/", "rediss+sentinel://:{}@h:x/m"),
    *("redis+sentinel://h:26379/main/0?sentinel_password={}", "redis+sentinel://h/main/x?sentinel_password={}"),
    *("me:{}@h:6379", "//{}@h", ":{}@h", "http://me:{}@h/x", "https://h/x?token={}", "https://h/{}", "file://me:{}@h"),
)
LINES = (
    *(["serve", "--upstream"], ["serve", "--sink"], ["serve", "--listen"], ["serve", "--admin"], ["serve"], []),
    *([name, "--upstream"] for name in ("audit", "doctor", "export", "persist")),
    *(["ready", "--admin"], ["tail", "--admin"], ["explain"], ["check"]),
)


@contextmanager
def nothing_begins(seen: list[str]) -> Iterator[None]:
    """Write down what a command would work with, instead of working."""

    def begin(settings: object, *_rest: object, **_options: object) -> None:
        upstream, sink = getattr(settings, "upstream", ""), getattr(settings, "sink", "")
        seen.append(f"{settings!r} {upstream} {sink}")
        raise SystemExit(0)

    with patch.object(serving, "_run", begin), patch("asynq_ttl.existing_keys.database.Database.open", begin):
        yield


@pytest.mark.parametrize("variable", [False, True], ids=["typed", "variable"])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SECRETS, st.sampled_from(URLS), st.sampled_from(LINES))
def test_no_piece_of_a_secret_is_shown(variable: bool, secret: str, url: str, line: list[str]) -> None:
    """Neither in an error, a usage or a traceback, nor in what stands for settings in a log."""
    seen: list[str] = []
    environment, typed = {}, [*line, url.format(secret)]
    if variable and line[1:]:
        environment = {"ASYNQ_TTL_" + line[1].removeprefix("--").replace("-", "_").upper(): typed.pop()}
        typed = line[:1]
    with nothing_begins(seen):
        result = CliRunner().invoke(main, typed, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), (typed, environment)
    # A path or a host is no secret, where no password can come before it.
    said = result.output + "".join(seen if "@" in url else [])
    for piece in PIECES:
        assert piece not in said or line[:1] in (["explain"], ["check"]), said

"""What a sidecar does unless it is told otherwise."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from asynq_ttl.net.address import parse_address
from asynq_ttl.sidecar.settings import Access, ClientAuth, Settings
from support.recorded import UPSTREAM


def test_by_default_clients_show_redis_their_own_credentials() -> None:
    """No TLS, no password of the sidecar's own, and nobody is logged in."""
    access = Settings(parse_address("127.0.0.1:0"), UPSTREAM).access
    assert access == Access(None, ClientAuth.PASS, None)
    assert not access.logs_in


@pytest.mark.parametrize("auth", [ClientAuth.NONE, ClientAuth.PASSWORD])
def test_otherwise_the_sidecar_logs_them_in(auth: ClientAuth) -> None:
    """With its own credentials, since Redis does not know what they show."""
    assert Access(auth=auth).logs_in


def test_they_do_not_change_while_it_runs() -> None:
    """Whoever has them may keep them."""
    settings = Settings(parse_address("127.0.0.1:0"), UPSTREAM)
    with pytest.raises(FrozenInstanceError):
        settings.drain_seconds = 1  # type: ignore[misc] # that is what is tested


def test_they_need_no_command_line() -> None:
    """A sidecar can be run by another program than `asynq-ttl`."""
    code = "import sys; import asynq_ttl.sidecar.run, asynq_ttl.sidecar.admin.server; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert not [name for name in loaded if name.split(".")[0] == "click" or name.startswith("asynq_ttl.cli")]

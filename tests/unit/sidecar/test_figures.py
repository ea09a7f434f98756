"""Metrics that are read from the running sidecar."""

import re

import pytest
from redis.exceptions import ResponseError

from asynq_ttl.net.address import parse_address, parse_upstream
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.sidecar.policy_in_force import Reload
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.sweep.sink import parse_sink
from asynq_ttl.telemetry.recorder import Telemetry
from support.recorded import sidecar
from support.small_scripts import ARCHIVE

POLICY = parse_policy("version: 1\nmode: shadow\nrules: [{name: all, archived: {ttl: 1h}}]", "policy.yaml")


def figure(asked: Sidecar, name: str) -> str:
    """Return a metric's value, after its labels, as Prometheus reads it."""
    text = asked.telemetry.metrics.text("")[0].decode()
    (found,) = re.findall(rf"^{name}(?:_total)?(.*)$", text, flags=re.MULTILINE)
    return str(found)


def test_what_passes_is_counted() -> None:
    """By the relay."""
    asked = sidecar(pulled=True)
    asked.relay.accepted, asked.relay.refused = 3, 2
    assert figure(asked, "asynq_ttl_connections_accepted") == " 3.0"
    assert figure(asked, "asynq_ttl_connections_refused") == " 2.0"
    assert figure(asked, "asynq_ttl_connections_open") == " 0.0"


def test_redis_is_up_once_it_answers() -> None:
    """As the control connection finds."""
    asked = sidecar(pulled=True)
    assert figure(asked, "asynq_ttl_upstream_up") == " 0.0"
    asked.control.problem = ""
    assert figure(asked, "asynq_ttl_upstream_up") == " 1.0"


@pytest.mark.parametrize(("url", "away"), [("redis://h", 0), ("redis+sentinel://a,b,c/m", 3)])
def test_sentinels_are_away_until_they_speak(url: str, away: int) -> None:
    """Without Sentinels none is missed."""
    upstream = parse_upstream(url)
    asked = Sidecar(Settings(parse_address("127.0.0.1:0"), upstream), POLICY, Telemetry(upstream, {}, pulled=True))
    assert figure(asked, "asynq_ttl_upstream_sentinels_away") == f" {away}.0"
    assert figure(asked, "asynq_ttl_upstream_switches") == " 0.0"


def test_the_policy_in_force_is_named_as_it_was_read() -> None:
    """A pause is a figure of its own; so is a file that was refused."""
    asked = sidecar(POLICY, pulled=True)
    asked.in_force.pause(paused=True)
    assert figure(asked, "asynq_ttl_paused") == " 1.0"
    assert figure(asked, "asynq_ttl_policy_info") == f'{{asynq_ttl_mode="shadow",digest="{POLICY.digest}"}} 1.0'
    assert figure(asked, "asynq_ttl_policy_refused") == " 0.0"
    asked.in_force.last_reload = Reload(0, ("line 1: no",))
    assert figure(asked, "asynq_ttl_policy_refused") == " 1.0"


def test_wrappers_are_counted_by_status() -> None:
    """And whether the sweeper keeps up."""
    asked = sidecar(pulled=True)
    asked.registry.learn(ARCHIVE)
    assert re.fullmatch(r'\{status="\w+"\} 1\.0', figure(asked, "asynq_ttl_scripts_wrappers"))
    assert figure(asked, "asynq_ttl_sweep_behind") == " 0.0"


def test_a_sink_that_fails_is_a_figure() -> None:
    """Until it takes tasks again; without a sink nothing fails."""
    asked = sidecar(pulled=True)
    assert (figure(asked, "asynq_ttl_sink_failures"), figure(asked, "asynq_ttl_sink_failing")) == (" 0.0", " 0.0")
    upstream = parse_upstream("redis://h")
    settings = Settings(parse_address("127.0.0.1:0"), upstream, sink=parse_sink("file:/x"))
    asked = Sidecar(settings, POLICY, Telemetry(upstream, {}, pulled=True))
    assert asked.handover is not None
    asked.handover.failed("disk full")
    asked.handover.failed("disk full")
    assert (figure(asked, "asynq_ttl_sink_failures"), figure(asked, "asynq_ttl_sink_failing")) == (" 2.0", " 1.0")


def test_what_redis_refuses_the_sweeper_is_counted_by_database() -> None:
    """Whatever the place is: no label grows with the names of queues."""
    asked = sidecar(pulled=True)
    for queue in ("a", "b"):
        with asked.sweeper.failures.kept_to(3, queue, "active"):
            raise ResponseError("WRONGTYPE")
    assert figure(asked, "asynq_ttl_sweep_failures") == '{database="3"} 2.0'

"""What a sidecar says about itself."""

import json

from redis.exceptions import ResponseError

from asynq_ttl.events import FailOpen
from asynq_ttl.policy.rules import State
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.rewriting.registry import Status
from asynq_ttl.sidecar.admin import status
from support.recorded import adopted, failed_open, outcome, sidecar, swept
from support.small_scripts import ARCHIVE, COMPLETE, UNKNOWN

POLICY = parse_policy(
    """
version: 1
mode: shadow
rollout: 2.5%
rules:
  - {name: mail, match: {queue: mail, type: "email:*"}, archived: {ttl: 36h}}
  - {name: default, archived: {ttl: 7d, max: 5}, completed: {ttl: keep}}
""",
    "policy.yaml",
)


def test_the_overview() -> None:
    """It sums up, and can be JSON."""
    asked = sidecar(POLICY)
    telemetry = asked.telemetry
    for changes in ({}, {"rule": "mail"}, {"rule": "mail", "enforced": False}):
        telemetry.decided(outcome(**changes))
    telemetry.failed_open(failed_open(FailOpen.MESSAGE))
    telemetry.swept(swept("a", ghosts=2))
    telemetry.adopted(adopted("a", "b"))
    telemetry.sweep_ended(0.1, "")
    for microseconds in range(1, 101):
        telemetry.measured(microseconds * 1000, "command")
    told = json.loads(json.dumps(status.overview(asked)))
    assert told["problem"] == "starting"
    assert told["mode"] == "shadow"
    assert told["decisions"]["by_action"] == {"ttl": 3}
    assert told["decisions"]["by_mode"] == {"enforce": 2, "shadow": 1}
    assert told["decisions"]["by_queue"] == {"mail": 3}
    assert told["fail_opens"] == {"message": 1}
    assert told["fail_opens_by_queue"] == {"": 1}
    assert told["scripts_not_understood"] == []
    assert (told["sweep"]["due"], told["sweep"]["ghosts"], bool(told["sweep"]["last"])) == (1, 2, True)
    assert told["sweep"]["adopted"] == 2
    assert told["latency_microseconds"]["command"] == {"p50": 50.0, "p99": 99.0, "max": 100.0, "measurements": 100}
    assert told["latency_microseconds"]["reply"] == {}


def test_the_scripts_that_are_not_understood() -> None:
    """Each by its SHA and the first line that says anything, and whether it goes by effect."""
    asked = sidecar()
    asked.registry.learn(COMPLETE)
    one = asked.registry.learn(b"\n  \n -- what we do \n" + UNKNOWN)
    two = asked.registry.learn(UNKNOWN + b"-" * 200)
    asked.registry.by_effect(one)
    first, second = json.loads(json.dumps(status.overview(asked)))["scripts_not_understood"]
    assert first == {"script": one.sha.decode(), "first_line": "-- what we do", "wrapped": "by effect"}
    assert (second["script"], second["wrapped"]) == (two.sha.decode(), "not at all")
    assert (len(second["first_line"]), second["first_line"][-1]) == (100, "\N{HORIZONTAL ELLIPSIS}")
    assert status.first_line(b"\n \n") == ""


def test_the_places_that_cannot_be_swept() -> None:
    """Each by its name, with what Redis says of it."""
    asked = sidecar()
    with asked.sweeper.failures.kept_to(0, "mail\udc00", State.ARCHIVED):
        raise ResponseError("WRONGTYPE")
    told = json.loads(json.dumps(status.overview(asked)))["sweep"]
    assert told["refusals"] == 1
    (failing,) = told["failing"]
    assert failing["place"] == "archived of queue mail\N{REPLACEMENT CHARACTER} in database 0"
    assert (failing["error"], bool(failing["at"])) == ("WRONGTYPE", True)


def test_the_policy_in_force() -> None:
    """Its rules in words, and how often each has decided."""
    asked = sidecar(POLICY)
    asked.telemetry.decided(outcome(rule="mail"))
    asked.telemetry.decided(outcome(rule=""))
    told = status.policy_in_force(asked)
    assert (told["digest"], told["mode"], told["rollout"], told["grace_seconds"]) == (
        POLICY.digest,
        "shadow",
        "2.5%",
        60,
    )
    assert told["rules"] == [
        {"name": "mail", "queue": ["mail"], "type": ["email:*"], "archived": "1d12h", "decided": 1},
        {"name": "default", "queue": [], "type": [], "archived": "7d", "completed": "keep", "max": 5, "decided": 0},
    ]
    assert told["decided_without_rule"] == 1
    assert told["last_reload"]["faults"] == []


def test_wrappers_and_where_they_are() -> None:
    """A wrapper is loaded once Redis has compiled it, and not any more when its cache was emptied."""
    asked = sidecar()
    script = asked.registry.learn(ARCHIVE)
    assert status.wrappers(asked)["wrappers"][0]["loaded_in"] == []
    script.status = Status.ACTIVE
    (told,) = status.wrappers(asked)["wrappers"]
    assert (told["kind"], told["status"], told["loaded_in"]) == ("archive", "active", ["redis://127.0.0.1:6379/0"])
    asked.registry.flushed()
    assert status.wrappers(asked)["wrappers"][0]["loaded_in"] == []


def test_the_census() -> None:
    """What a report needs: the kinds of tasks, and the text of the policy."""
    asked = sidecar(POLICY)
    asked.telemetry.decided(outcome())
    told = status.census(asked)
    assert told["policy"]["text"] == POLICY.text
    assert told["policy"]["mode"] == "shadow"
    assert told["kinds"] == [
        {
            "queue": "mail",
            "type": "email:send",
            "state": "archived",
            "own_seconds": 7_776_000,
            "tasks": 1,
            "size_bytes": 100,
        }
    ]


def test_connections_are_none_yet() -> None:
    """Nobody is connected."""
    assert status.connections(sidecar()) == {"open": 0, "connections": []}

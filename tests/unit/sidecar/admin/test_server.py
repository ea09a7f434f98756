"""The admin server's calls, and who may make them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector
from aiohttp.test_utils import unused_port
from yarl import URL

from asynq_ttl.net.address import Address
from asynq_ttl.sidecar.admin.http import HttpServer
from asynq_ttl.sidecar.admin.server import Admin, AdminError, AdminSettings, admin_server
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.sweep.sink import parse_sink
from asynq_ttl.telemetry import recent
from support.in_process import make_sidecar
from support.recorded import outcome, sidecar

LOOPBACK = Address("127.0.0.1", 9180)
EVERYWHERE = Address("0.0.0.0", 9180)  # noqa: S104 - that is what is tested


@pytest.fixture
def asked() -> Sidecar:
    """A sidecar that does not run."""
    return sidecar(pulled=True)


@asynccontextmanager
async def connected(asked: Sidecar, settings: AdminSettings) -> AsyncIterator[ClientSession]:
    """Yield a client of an admin server that believes what the settings say of where it listens."""
    admin = Admin(settings, asked)
    server = HttpServer(admin.answer)
    port = await server.start("127.0.0.1", 0)
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        admin.closing.set()
        await server.close(0)


@pytest.fixture
async def client(asked: Sidecar) -> AsyncIterator[ClientSession]:
    """A client on the loopback interface, without a token."""
    async with connected(asked, AdminSettings(LOOPBACK)) as client:
        yield client


async def test_health(asked: Sidecar, client: ClientSession) -> None:
    """Alive at once, started once it listens, ready once Redis answers."""
    calls = ("/livez", "/startupz", "/readyz")
    assert [(await client.get(call)).status for call in calls] == [200, 503, 503]
    asked.listening = LOOPBACK
    assert [(await client.get(call)).status for call in calls] == [200, 200, 503]
    assert "not connected yet" in await (await client.get("/readyz")).text()
    asked.control.problem = ""
    assert await (await client.get("/readyz")).text() == "ok\n"
    asked.stop.set()
    assert await (await client.get("/readyz")).text() == "draining\n"


async def test_a_sink_that_fails_is_told_and_clients_may_come() -> None:
    """In words: tasks are kept meanwhile, so nobody has to stay away."""
    asked = make_sidecar(sink=parse_sink("file:/x"))
    assert asked.handover is not None
    asked.handover.failed("disk full")
    asked.listening, asked.control.problem = LOOPBACK, ""
    async with connected(asked, AdminSettings(LOOPBACK)) as client:
        answer = await client.get("/readyz")
        assert (answer.status, await answer.text()) == (200, "ok, but the sink file:/x fails: disk full\n")
        told = await (await client.get("/api/status")).json()
    assert told["sweep"]["sink"] == {"failures": 1, "problem": "the sink file:/x fails: disk full"}


async def test_a_call_that_raises_harms_no_other(
    asked: Sidecar, client: ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered, counted, and named once in the log."""

    def fail(**_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(asked.in_force, "pause", fail)
    for _ in range(3):
        answer = await client.post("/api/pause")
        assert (answer.status, await answer.json()) == (500, {"error": "the call has failed; the log says why"})
    assert asked.background.failures == {"an admin call": 3}
    assert caplog.messages == ["an admin call failed and is answered with 500: ZeroDivisionError"]
    assert (await client.get("/livez")).status == 200


async def test_what_is_told(asked: Sidecar, client: ClientSession) -> None:
    """Every call answers with what it says, and nothing is kept by a cache."""
    asked.telemetry.decided(outcome())
    for call, part in {
        "/": "<!doctype html>",
        "/metrics": "asynq_ttl_decisions_total{",
        "/api/status": '"by_action": {"ttl": 1}',
        "/api/policy": '"text": "version: 1',
        "/api/connections": '"open": 0',
        "/api/wrappers": '"wrappers": []',
        "/api/census": '"own_seconds": 7776000',
        "/api/decisions": '"id": "id-1"',
        "/api/task?id=id-1&redis=no": '"rule_then": "default"',
    }.items():
        answer = await client.get(call)
        assert answer.status == 200
        assert part in await answer.text(), call
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Frame-Options"] == "DENY"
    missing = await client.get("/nothing")
    assert (missing.status, await missing.json()) == (404, {"error": "Not Found"})
    wrong = await client.get("/api/pause")
    assert (wrong.status, await wrong.json()) == (405, {"error": "Method Not Allowed"})


async def test_the_page_loads_nothing_from_elsewhere(client: ClientSession) -> None:
    """Its policy allows its own script and style by their hashes, and calls to this server."""
    answer = await client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


async def test_a_task_can_be_found(asked: Sidecar, client: ClientSession) -> None:
    """By its ID, percent-encoded, whatever bytes it has; a question without one is refused."""
    asked.telemetry.decided(outcome(task_id="a \udcff&"))
    answer = await (await client.get(URL("/api/task?redis=no&id=a%20%FF%26", encoded=True))).json()
    assert (answer["known"], answer["id_base64"]) == (True, "YSD/Jg==")
    assert (await client.get("/api/task?queue=q")).status == 400
    assert (await (await client.get("/api/task?id=b&redis=no")).json())["known"] is False


async def test_decisions_can_be_filtered(asked: Sidecar, client: ClientSession) -> None:
    """By the query; faults say what is wrong."""
    for number in range(5):
        asked.telemetry.decided(outcome(task_id=str(number), queue="a" if number % 2 else "b"))
    answer = await (await client.get("/api/decisions?queue=a&limit=1")).json()
    assert [entry["id"] for entry in answer["decisions"]] == ["3"]
    for query in ("colour=red", "queue=[a", "limit=none", "limit=0"):
        answer = await client.get(f"/api/decisions?{query}")
        assert answer.status == 400
        assert query.split("=")[0] in (await answer.json())["error"]


@pytest.mark.parametrize("events", [False, True])
async def test_watching(asked: Sidecar, client: ClientSession, *, events: bool) -> None:
    """Entries come as they happen, as JSON lines or server-sent events; who leaves is forgotten."""
    headers = {"Accept": "text/event-stream"} if events else {}
    async with client.get("/api/decisions/stream?queue=mail", headers=headers) as answer:
        lines = (line.removeprefix(b"data: ").strip() async for line in answer.content)
        found = (json.loads(line) async for line in lines if line)
        assert await anext(found) == {"kind": "watching"}
        asked.telemetry.decided(outcome(queue="other"))
        asked.telemetry.decided(outcome(task_id="mine"))
        assert (await anext(found))["id"] == "mine"
        assert await anext(found) == {"kind": "heartbeat"}
        asked.telemetry.recent._watchers[0].dropped = 3
        assert await anext(found) == {"kind": "dropped", "entries": 3}
    assert (await client.get("/api/decisions/stream?x=y")).status == 400
    while asked.telemetry.recent.watchers:  # noqa: ASYNC110 - the server notices by itself, at its next write
        await asyncio.sleep(0.01)


async def test_not_too_many_watch(asked: Sidecar, client: ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit they are told so."""
    monkeypatch.setattr("asynq_ttl.sidecar.admin.server.MAX_WATCHERS", 0)
    assert (await client.get("/api/decisions/stream")).status == 503
    assert recent.MAX_WATCHERS > 0


async def test_pause_and_resume(asked: Sidecar, client: ClientSession) -> None:
    """Paused, the policy is in shadow mode; a reload does not change that; resuming brings its own mode back."""
    assert await (await client.post("/api/pause")).json() == {"paused": True, "mode": "shadow"}
    assert asked.shared.rewriter.policy.mode.value == "shadow"
    assert asked.in_force.policy.mode.value == "enforce"
    assert await (await client.post("/api/pause")).json() == {"paused": True, "mode": "shadow"}
    assert await (await client.post("/api/resume")).json() == {"paused": False, "mode": "enforce"}
    kinds = [entry["kind"] for entry in (await (await client.get("/api/decisions")).json())["decisions"]]
    assert kinds == ["resume", "pause"]


async def test_reload_drain_and_log_level(asked: Sidecar, client: ClientSession) -> None:
    """What an operator may change."""
    answer = await client.post("/api/reload")
    assert (answer.status, (await answer.json())["faults"]) == (422, ["there is no policy file to reload"])
    assert await (await client.post("/api/log-level?level=debug")).json() == {"log_level": "debug"}
    assert await (await client.post("/api/log-level", json={"level": "info"})).json() == {"log_level": "info"}
    assert await (await client.post("/api/log-level?level=WARN")).json() == {"log_level": "warning"}
    assert await (await client.post("/api/log-level", json={"level": " Info "})).json() == {"log_level": "info"}
    for wrong in ({"json": {"level": "loud"}}, {"json": ["x"]}, {"data": "nonsense"}, {}):
        assert (await client.post("/api/log-level", **wrong)).status == 400
    assert (await client.post("/api/drain")).status == 202
    assert asked.stop.is_set()


CROSS_SITE = {
    "another host": {"Host": "evil.example"},
    "another host by a port": {"Host": "evil.example:9180"},
    "a malformed host": {"Host": "["},
    "another origin": {"Origin": "http://evil.example"},
    "no origin of a file": {"Origin": "null"},
    "a browser's word": {"Sec-Fetch-Site": "cross-site"},
}


@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
async def test_other_web_sites_are_refused(asked: Sidecar, client: ClientSession, headers: dict[str, str]) -> None:
    """What a site makes a browser send changes nothing."""
    assert (await client.post("/api/drain", headers=headers)).status == 403
    assert not asked.stop.is_set()
    if "Sec-Fetch-Site" not in headers:
        assert (await client.get("/api/status", headers=headers)).status == 403


async def test_the_page_itself_may_call(asked: Sidecar, client: ClientSession) -> None:
    """Its own origin is no other site."""
    host = str((await client.get("/livez")).url.authority)
    headers = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert (await client.post("/api/pause", headers=headers)).status == 200


async def test_elsewhere_changes_need_a_token(asked: Sidecar) -> None:
    """Off the loopback interface who has no token may only read."""
    for token, given, expected in (
        ("", "", 403),
        ("", "Bearer x", 403),
        ("right", "", 401),
        ("right", "Bearer wrong", 401),
        ("right", "Bearer right", 200),
    ):
        async with connected(asked, AdminSettings(EVERYWHERE, token)) as client:
            assert (await client.post("/api/pause", headers={"Authorization": given})).status == expected
            assert (await client.get("/api/status", headers={"Host": "asynq-ttl.prod:9180"})).status == 200


async def test_a_token_is_asked_for_on_the_loopback_interface_too(asked: Sidecar) -> None:
    """Who gave one wants it to be needed."""
    async with connected(asked, AdminSettings(LOOPBACK, "right")) as client:
        assert (await client.post("/api/pause")).status == 401
        assert (await client.post("/api/pause", headers={"Authorization": "Bearer right"})).status == 200


async def test_a_token_can_be_replaced(asked: Sidecar, tmp_path: Path) -> None:
    """In its file, which is read at each call; while there is none in it, nothing may be changed."""
    file = tmp_path / "token"
    async with connected(asked, AdminSettings(LOOPBACK, token_file=file)) as client:
        for content, given, expected in (
            (None, "old", 503),
            ("old\n", "old", 200),
            ("new\n", "old", 401),
            ("new\n", "new", 200),
            (" \n", "", 503),
        ):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_text(content)
            answer = await client.post("/api/pause", headers={"Authorization": f"Bearer {given}"})
            assert answer.status == expected
            assert (await client.get("/api/status")).status == 200


async def test_it_listens(asked: Sidecar, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At a port or a unix socket that only its owner can use; not at all if that is asked for."""
    caplog.set_level("INFO", "asynq_ttl")
    path = tmp_path / "admin.sock"

    def told() -> list[str]:
        return [message for message in caplog.messages if message.startswith("admin server at ")]

    async with admin_server(AdminSettings(Address(path=str(path))), asked):
        assert path.stat().st_mode & 0o777 == 0o600
        async with ClientSession(connector=UnixConnector(str(path))) as session:
            assert (await session.get("http://localhost/livez")).status == 200
            assert (await session.post("http://localhost/api/pause")).status == 200
    async with admin_server(AdminSettings(Address("127.0.0.1", 0)), asked):
        url = told()[-1].removeprefix("admin server at ")
        async with ClientSession() as session:
            assert (await session.get(f"{url}livez")).status == 200
    async with admin_server(AdminSettings(None), asked):
        assert len(told()) == 2


async def test_an_address_that_is_taken(asked: Sidecar, caplog: pytest.LogCaptureFixture) -> None:
    """Where it was asked for, that is a fault of one line; else the sidecar goes on without."""
    address = Address("127.0.0.1", unused_port())
    async with admin_server(AdminSettings(address), asked):
        with pytest.raises(AdminError, match=rf"^the admin server cannot listen at {address}: .*give --admin another"):
            async with admin_server(AdminSettings(address), asked):
                pytest.fail("it listens twice")
        async with admin_server(AdminSettings(address, required=False), asked):
            assert caplog.messages[-1].startswith(f"no admin server, it cannot listen at {address}: ")

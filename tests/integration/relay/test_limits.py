"""Where what a client can make a sidecar keep ends, as docs/threat-model.md has it, with a real sidecar."""

import re
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
import redis as redis_py

from asynq_ttl.rewriting.registry import MAX_TEXT_BYTES, MAX_WRAPPED, sha_of
from asynq_ttl.session.pending import MAX_PENDING
from asynq_ttl.session.script_calls import MAX_ASKED
from asynq_ttl.session.selected import MAX_DATABASES
from asynq_ttl.telemetry.decisions import MAX_DECISION_SERIES
from asynq_ttl.telemetry.logs import MOST_WARNINGS
from asynq_ttl.wire.commands import HOLD_BYTES, MAX_HELD_BYTES, encode
from support.commands import run
from support.conversation import complete
from support.pressure import MIB, memory_bytes
from support.servers import Server, Sidecar, SidecarFactory, start_redis, wait_until
from support.small_scripts import COMPLETE, UNKNOWN

POLICY = "version: 1\ngrace: 60s\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
OK = b"+OK\r\n"
AT = 1_700_000_000


def completing(task_id: str, text: bytes = COMPLETE) -> tuple[bytes, ...]:
    """Return the command that completes a task by the text of a script."""
    return complete(text, name=b"EVAL", at=AT, task_id=task_id)


def variant(number: int) -> bytes:
    """Return one of many texts that do the same."""
    return COMPLETE + b"-- %d" % number


def connect(sidecar: Sidecar) -> socket.socket:
    """Connect a client that can wait for a while."""
    connection = socket.create_connection(("127.0.0.1", sidecar.port))
    connection.settimeout(60)
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(1 << 20)
        assert chunk, bytes(data[-200:])
        data += chunk
    return bytes(data)


def count(sidecar: Sidecar, metric: str, label: str = "") -> int:
    """Return the sum of a metric's series that have a label."""
    with urllib.request.urlopen(f"http://{sidecar.admin}/metrics") as response:
        text = response.read().decode()
    found = re.findall(rf"^{metric}{{([^}}]*)}} (\S+)$", text, re.MULTILINE)
    return int(sum(float(value) for labels, value in found if label in labels))


def waiting_bytes(server: Server) -> int:
    """Return how much of an incomplete command Redis has of any client."""
    with server.client() as client:
        return max(int(each["qbuf"]) for each in client.client_list())


@pytest.fixture
def sidecar(redis_server: Server, start_sidecar: SidecarFactory) -> Sidecar:
    """A sidecar with an admin server, in front of an empty Redis."""
    return start_sidecar(redis_server.url, POLICY, admin="127.0.0.1:0")


def test_a_large_command_goes_on_in_pieces(redis_server: Server, sidecar: Sidecar) -> None:
    """From 64 KiB on, unless it is a script call that may have to be rewritten; that one Redis gets whole."""
    start = encode([b"SET", b"k", b"x" * 4 * HOLD_BYTES])[:-HOLD_BYTES]
    with connect(sidecar) as client:
        client.sendall(start)
        wait_until(lambda: waiting_bytes(redis_server) > 2 * HOLD_BYTES, "it is held")
        client.sendall(b"x" * (HOLD_BYTES - 2) + b"\r\n")
        assert read(client, 5) == OK
        call = encode([*completing("large"), b"x" * 4 * HOLD_BYTES])
        client.sendall(call[:-HOLD_BYTES])
        time.sleep(0.3)
        assert waiting_bytes(redis_server) < HOLD_BYTES
        client.sendall(call[-HOLD_BYTES:])
        assert read(client, 5) == OK
    with redis_server.client() as direct:
        assert direct.ttl("asynq:{q}:t:large") > 0


def test_a_call_that_is_too_large_goes_on_as_it_came(redis_server: Server, sidecar: Sidecar) -> None:
    """Past 64 MiB no more is held of it; it is counted, and the task is completed without a TTL."""
    sidecar.expected_warnings.append(r"failed open \(size\)")
    with connect(sidecar) as client:
        client.sendall(encode([*completing("huge"), b"x" * (MAX_HELD_BYTES + MIB)]))
        assert read(client, 5) == OK
    assert count(sidecar, "asynq_ttl_fail_open_total", 'reason="size"') == 1
    with redis_server.client() as direct:
        assert direct.ttl("asynq:{q}:t:huge") == -1
        assert direct.hget("asynq:{q}:t:huge", "state") == b"completed"


def test_a_script_is_waited_for_two_seconds(start_sidecar: SidecarFactory) -> None:
    """While Redis does not load it, nothing more is read from the client; then the call goes as it came."""
    with start_redis() as server:
        sidecar = start_sidecar(server.url, POLICY, admin="127.0.0.1:0")
        sidecar.expected_warnings += ["is down", "cannot load a wrapper", r"failed open \(activation\)", "sweeping"]
        with connect(sidecar) as client:
            client.sendall(encode([b"PING"]))
            assert read(client, 7) == b"+PONG\r\n"
            server.process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            client.sendall(encode(completing("a")))
            wait_until(lambda: count(sidecar, "asynq_ttl_fail_open_total", 'reason="activation"'), "it waits for ever")
            assert time.monotonic() - started > 1
            server.process.send_signal(signal.SIGCONT)
            assert read(client, 5) == OK
        sidecar.stop()


def test_scripts_past_the_limit_are_not_wrapped(redis_server: Server, sidecar: Sidecar) -> None:
    """A thousand are; one more is forwarded as it came, and that is counted."""
    sidecar.expected_warnings.append(r"failed open \(scripts\)")
    with sidecar.client() as client:
        for first in range(0, MAX_WRAPPED, 100):
            with client.pipeline(transaction=False) as pipe:
                for number in range(first, first + 100):
                    pipe.script_load(variant(number).decode())
                pipe.execute()
        assert count(sidecar, "asynq_ttl_fail_open_total") == 0
        client.execute_command(*completing("last", variant(MAX_WRAPPED - 1)))
        client.execute_command(*completing("over", variant(MAX_WRAPPED)))
        assert count(sidecar, "asynq_ttl_fail_open_total", 'reason="scripts"') == 1
    with redis_server.client() as direct:
        assert direct.ttl("asynq:{q}:t:last") > 0
        assert direct.ttl("asynq:{q}:t:over") == -1
        assert direct.hget("asynq:{q}:t:over", "state") == b"completed"


def test_a_long_text_is_not_wrapped(redis_server: Server, sidecar: Sidecar) -> None:
    """One of more than 64 KiB is run as it came."""
    with sidecar.client() as client:
        client.execute_command(*completing("long", COMPLETE + b"--" + b"x" * MAX_TEXT_BYTES))
    with redis_server.client() as direct:
        assert direct.ttl("asynq:{q}:t:long") == -1


def test_decisions_wait_for_so_many_replies(redis_server: Server, sidecar: Sidecar) -> None:
    """Of a client that sends on while Redis keeps it waiting, the decisions past the limit are told at once."""
    more = 100
    sha = sha_of(COMPLETE)
    with connect(sidecar) as client, redis_server.client() as direct:
        client.sendall(encode([b"SCRIPT", b"LOAD", COMPLETE]) + encode([b"BLPOP", b"gate", b"0"]))
        read(client, 47)
        calls = [encode(complete(sha, at=AT, task_id=str(number))) for number in range(MAX_PENDING + more)]
        client.sendall(b"".join(calls))
        wait_until(lambda: count(sidecar, "asynq_ttl_decisions_total") == more, "they are not told")
        direct.rpush("gate", "x")
        read(client, len(b"*2\r\n$4\r\ngate\r\n$1\r\nx\r\n") + len(OK) * len(calls))
        wait_until(lambda: count(sidecar, "asynq_ttl_decisions_total") == len(calls), "they are not told")


def test_so_many_shas_are_remembered(sidecar: Sidecar) -> None:
    """What a client asked for is forwarded as it came; of what it asked for past the limit it is asked for the text."""
    sidecar.expected_warnings.append(r"failed open \(unseen\)")
    shas = [b"%040x" % number for number in range(MAX_ASKED + 10)]
    with sidecar.client() as client:
        assert client.script_exists(*shas) == [False] * len(shas)
        for sha, forwarded in ((shas[0], 1), (shas[MAX_ASKED - 1], 2), (shas[MAX_ASKED], 2)):
            with pytest.raises(redis_py.exceptions.NoScriptError):
                client.execute_command(*complete(sha, at=AT, task_id="a"))
            assert count(sidecar, "asynq_ttl_fail_open_total", 'reason="unseen"') == forwarded


def test_so_many_databases_are_swept(start_sidecar: SidecarFactory) -> None:
    """Tasks that are due go from those; what a client selects past the limit is left to the keys' own TTL."""
    with start_redis("--databases", str(MAX_DATABASES + 10)) as server:
        sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.2")
        with connect(sidecar) as client:
            for number in range(MAX_DATABASES + 5):
                commands = [b"SELECT", b"%d" % number], [b"SADD", b"asynq:queues", b"q"], completing("a")
                client.sendall(b"".join(map(encode, commands)))
                read(client, 2 * len(OK) + len(b":1\r\n"))
        early, late = server.client(1), server.client(MAX_DATABASES + 2)
        with early, late:
            for database in (early, late):
                assert database.ttl("asynq:{q}:t:a") > 0
                database.expire("asynq:{q}:t:a", 58)
            wait_until(lambda: not early.exists("asynq:{q}:t:a"), "it is not swept")
            time.sleep(1)
            assert late.exists("asynq:{q}:t:a")
        sidecar.stop()


def test_a_reply_of_one_long_line_ends_the_counting(redis_server: Server, sidecar: Sidecar) -> None:
    """The client gets it whole; what comes after is still rewritten, and its decision is told without a reply."""
    size = 3 * MIB
    with connect(sidecar) as client:
        before = memory_bytes(sidecar, "VmRSS")
        client.sendall(encode([b"EVAL", b"return redis.status_reply(string.rep('x', %d))" % size, b"0"]))
        assert len(read(client, size + 3)) == size + 3
        client.sendall(encode(completing("a")))
        assert read(client, 5) == OK
    assert memory_bytes(sidecar, "VmHWM") - before < 10 * MIB
    assert count(sidecar, "asynq_ttl_decisions_total") == 1
    with redis_server.client() as direct:
        assert direct.ttl("asynq:{q}:t:a") > 0


def test_a_header_of_many_values_costs_nothing(sidecar: Sidecar) -> None:
    """A hundred clients that announce half a million values each make it neither grow nor stand still."""
    clients = [connect(sidecar) for _ in range(100)]
    before = memory_bytes(sidecar, "VmRSS")
    for client in clients:
        client.sendall(b"*500000\r\n$4\r\nECHO\r\n*500000\r\n")
    with sidecar.client() as other:
        assert other.ping()
    assert memory_bytes(sidecar, "VmHWM") - before < 20 * MIB
    for client in clients:
        client.close()


def test_so_many_series_are_counted(sidecar: Sidecar) -> None:
    """Queues that a client makes up are counted together once there are too many."""
    more = 50
    with sidecar.client() as client:
        client.script_load(COMPLETE.decode())
        with client.pipeline(transaction=False) as pipe:
            for number in range(MAX_DECISION_SERIES + more):
                pipe.execute_command(*complete(sha_of(COMPLETE), at=AT, task_id="a", queue=f"q{number}"))
            pipe.execute()
    assert count(sidecar, "asynq_ttl_decisions_total") == MAX_DECISION_SERIES + more
    assert count(sidecar, "asynq_ttl_decisions_total", '"other"') == more


def test_a_warning_is_not_repeated(sidecar: Sidecar) -> None:
    """Within ten seconds each script is named once, and no more than thirty, however many fail open how often."""
    sidecar.expected_warnings.append(r"failed open \(shape\)")
    with sidecar.client() as client:
        for number in range(200):
            client.eval(UNKNOWN.decode() + f" -- {number % 100}", 1, "asynq:{q}:t:1")
    assert count(sidecar, "asynq_ttl_fail_open_total") == 200
    # A busy machine may take longer than that.
    assert MOST_WARNINGS <= sidecar.log().count("failed open") <= 3 * MOST_WARNINGS


_RULE = "{name: r%d, match: {type: t%d}, archived: {ttl: 1h}}"


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ("#" * (MIB + 1), "is larger than 1 MiB"),
        (f"version: 1\nrules: [{', '.join(_RULE % (n, n) for n in range(1001))}]", "more than 1000 rules"),
        (f"version: 1\nrules: [{{match: {{type: [{', '.join(f't{n}' for n in range(101))}]}}}}]", "1 to 100 globs"),
        ("version: 1\nrules: " + "[" * 40 + "]" * 40, "nested too deeply"),
    ],
    ids=["bytes", "rules", "globs", "levels"],
)
def test_a_policy_that_is_too_large_is_refused(
    redis_server: Server, tmp_path: Path, policy: str, complaint: str
) -> None:
    """A sidecar does not start with it, and says what is too much."""
    file = tmp_path / "policy.yaml"
    file.write_text(policy)
    done = run("serve", "--upstream", redis_server.url, "--policy", file, "--admin", "off")
    assert done.returncode == 2
    assert complaint in done.stdout + done.stderr

"""A real process shows no piece of a secret: neither in its log and its errors nor in the list of processes."""

import re
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from support.commands import run
from support.servers import Server, free_port, start_redis, wait_until
from support.serving import serving

SECRET = "Xq7/Zv9?Kw3#Jp5@Rt8:Bn2[Gd6%Lf4"
"""Every character that ends something in a URL, between pieces that stand in no message."""
PIECES = ("Xq7", "Zv9", "Kw3", "Jp5", "Rt8", "Bn2", "Gd6", "Lf4")
DIGITS = "38714/29725?48736#39747"
"""One whose beginning can be a port."""
CASES = {
    "upstream": ("redis://:{}@127.0.0.1:1/0", "ASYNQ_TTL_UPSTREAM"),
    "upstream, user": ("rediss://me:{}@127.0.0.1:1/0", "ASYNQ_TTL_UPSTREAM"),
    "upstream, no scheme": ("{}@127.0.0.1:1", "ASYNQ_TTL_UPSTREAM"),
    "upstream, path": ("redis://127.0.0.1:1/{}", "ASYNQ_TTL_UPSTREAM"),
    "upstream, unix": ("unix://:{}@/tmp/none.sock", "ASYNQ_TTL_UPSTREAM"),
    "sentinels": ("redis+sentinel://:{}@127.0.0.1:1,127.0.0.1:2/main/0", "ASYNQ_TTL_UPSTREAM"),
    "sentinels, option": ("redis+sentinel://127.0.0.1:1/main/0?sentinel_password={}", "ASYNQ_TTL_UPSTREAM"),
    "sink": ("http://me:{}@127.0.0.1:1/x", "ASYNQ_TTL_SINK"),
    "sink, query": ("https://127.0.0.1:1/x?token={}", "ASYNQ_TTL_SINK"),
    "sink, path": ("https://127.0.0.1:1/{}", "ASYNQ_TTL_SINK"),
    "sink, no scheme": ("me:{}@127.0.0.1:1/x", "ASYNQ_TTL_SINK"),
    "listen": ("redis://:{}@127.0.0.1:1/0", "ASYNQ_TTL_LISTEN"),
    "admin": ("http://me:{}@127.0.0.1:1/", "ASYNQ_TTL_ADMIN"),
    "collector": ("http://me:{}@127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "collector, query": ("http://127.0.0.1:1/v1/traces?key={}", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    "headers": ("Authorization=Bearer {}", "OTEL_EXPORTER_OTLP_HEADERS"),
    "headers, malformed": ("Authorization Bearer {}", "OTEL_EXPORTER_OTLP_HEADERS"),
    "headers, a line": ("key=a\n{}", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    "proxy": ("http://me:{}@127.0.0.1:1", "HTTP_PROXY"),
}


def shown(text: str, secret: str) -> list[str]:
    """Return the pieces of a secret that are in a text."""
    pieces = PIECES if secret != DIGITS else ("871", "972", "873", "974")
    # The time in front of a line has digits too.
    said = "\n".join(line.partition(" INFO ")[2] or line[24:] for line in text.splitlines())
    said = re.sub(r"127\.0\.0\.1:\d+", "", said)  # ports are digits too
    return [piece for piece in pieces if piece in said]


def trials() -> Iterator[tuple[str, str, str]]:
    """Yield each case with each secret; what goes to a collector, by each protocol."""
    for case, (_, variable) in CASES.items():
        for secret in (SECRET, DIGITS):
            yield case, secret, "http/protobuf"
            if variable.startswith("OTEL"):
                yield case, secret, "grpc"


@pytest.mark.parametrize(("case", "secret", "protocol"), list(trials()))
def test_a_process_shows_no_piece_of_a_secret(
    case: str, secret: str, protocol: str, redis_server: Server, tmp_path: Path
) -> None:
    """Whether the value can be used or not, and whatever a library says about it."""
    form, variable = CASES[case]
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "ASYNQ_TTL_LISTEN": f"127.0.0.1:{free_port()}",
        "ASYNQ_TTL_ADMIN": "off",
        "ASYNQ_TTL_UPSTREAM": redis_server.url,
        "ASYNQ_TTL_LOG_LEVEL": "debug",
        variable: form.format(secret),
    }
    # What OpenTelemetry's variables say may be read as soon as it is imported.
    with serving(tmp_path, variables=variables, forked=not variable.startswith("OTEL")) as process:
        wait_until(lambda: process.process.poll() is not None or " listening at " in process.told(), "it says nothing")
        if process.process.poll() is None:
            time.sleep(1)  # exporters say something
        process.process.terminate()
        process.end()
        assert shown(process.told(), secret) == [], process.told()


def test_the_list_of_processes_shows_no_secret(tmp_path: Path) -> None:
    """What was typed is out of it as soon as the program runs; it works all the same."""
    with start_redis("--requirepass", "Xq7Zv9") as server:
        admin = free_port()
        typed = ["--upstream", f"redis://:Xq7Zv9@127.0.0.1:{server.port}/0", "--admin-token=Kw3Jp5", "--sink"]
        typed += ["http://me:Rt8Bn2@127.0.0.1:1/x", "--admin", f"127.0.0.1:{admin}", "--listen", "127.0.0.1:0"]
        with serving(tmp_path, *typed) as process:
            process.wait_for("is up")
            line = Path(f"/proc/{process.process.pid}/cmdline").read_text()
            assert "serve" in line
            assert shown(line.replace("\0", "\n" + " " * 24), SECRET) == []
            connection = HTTPConnection("127.0.0.1", admin)
            for call in ("status", "policy", "connections", "wrappers", "census", "decisions"):
                connection.request("GET", f"/api/{call}")
                assert shown(" " * 24 + connection.getresponse().read().decode(), SECRET) == []
            connection.close()
        done = run("doctor", "--upstream", f"redis://:Xq7Zv9@127.0.0.1:{server.port}/0")
        assert "is no Asynq database" in done.stderr
        assert shown(done.stdout + done.stderr, SECRET) == []

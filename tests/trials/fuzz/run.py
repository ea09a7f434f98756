"""Fuzz one target with atheris: `run.py TARGET [--seconds N] [--corpus FOLDER]`.

libFuzzer prints what it does; its last line says how many executions there were. A finding ends it with a stack trace
and leaves the input in the corpus folder as `crash-...`: put it into `regressions/TARGET/` and mend the fault.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["asynq_ttl"]):
    import asynq_ttl.session.session  # noqa: F401 - imported here so that it is instrumented

from support.servers import start_path_redis, start_redis, start_valkey
from support.task_message import encode_task
from trials.fuzz import mutations
from trials.fuzz.corpus import record
from trials.fuzz.targets import TARGETS
from trials.fuzz.twins import Twins

_SERVERS = {"redis": start_redis, "valkey": start_valkey, "path": start_path_redis}
_SEEDS = 300
_CORPORA = {"replies": ("replies",), "chunk": ("commands", "replies")}
# The fuzzer does not see into the compiled part, so it would forget these: they are what it changes, over and over.
_MESSAGES = (
    encode_task("mail", "1"),
    encode_task("mail:send", "0b8f", "low", 3600, payload=b"x" * 200, unique_key=b"k", completed_at=1_700_000_000),
    encode_task("\u00e9", "\u00e9", "\u00e9", 2**62, last_failed_at=2**63, headers={"traceparent": "x"}),
    encode_task("", "", "", 2**64 - 1, payload=b""),
)


def main() -> None:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=[*TARGETS, "differential"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--server", choices=_SERVERS, default="redis", help="for `differential`: which server")
    options = parser.parse_args()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="asynq-ttl-corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    if options.target == "differential":
        sys.exit(_compare(options.server, corpus, options.seconds))
    if not any(corpus.glob("commands/*")):
        print(f"{record(corpus)} chunks of a real conversation are in {corpus}", flush=True)  # noqa: T201 - a program
    seeds = _CORPORA.get(options.target, ("commands",))
    arguments = _arguments(options.target, corpus, options.seconds, seeds)
    atheris.Setup(
        arguments, TARGETS[options.target], **({"custom_mutator": _message} if options.target == "message" else {})
    )
    atheris.Fuzz()


def _arguments(target: str, corpus: Path, seconds: int, seeds: tuple[str, ...]) -> list[str]:
    """Return libFuzzer's command line."""
    regressions = Path(__file__).parent / "regressions" / target
    found = corpus / f"found-{target}"
    found.mkdir(exist_ok=True)
    folders = [str(folder) for folder in (found, *(corpus / seed for seed in seeds), regressions) if folder.exists()]
    limits = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=10", "-rss_limit_mb=2048"]
    return [sys.argv[0], *limits, f"-artifact_prefix={corpus}/", "-print_final_stats=1", *folders]


def _compare(server: str, corpus: Path, seconds: int) -> int:
    """Fuzz a session between two servers; return the fuzzer's status."""
    seeds = corpus / "streams"
    seeds.mkdir(exist_ok=True)
    for number in range(_SEEDS):
        (seeds / str(number)).write_bytes(mutations.stream(random.Random(number)))
    start = _SERVERS[server]
    with start() as direct, start() as behind:
        # libFuzzer ends its process, and whatever happens the servers must end too.
        child = os.fork()
        if child:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda _number, _frame: os.kill(child, signal.SIGKILL))
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        arguments = [*_arguments("differential", corpus, seconds, ("streams",)), "-max_len=70000", "-timeout=60"]
        atheris.Setup(arguments, Twins(direct, behind).compare, custom_mutator=_mutate)
        atheris.Fuzz()
        raise AssertionError("it never returns")


def _message(_data: bytes, max_size: int, seed: int) -> bytes:
    """Return some message with a few pieces of it changed, or of another one put in."""
    source = random.Random(seed)
    data = source.choice(_MESSAGES)
    for _ in range(source.randint(0, 4)):
        at, other = source.randint(0, len(data)), source.choice(_MESSAGES)
        start = source.randint(0, len(other))
        piece = source.choice(
            (b"", source.randbytes(1), source.randbytes(3), other[start : start + source.randint(1, 30)])
        )
        data = data[:at] + piece + data[at + source.choice((0, 1, 1, 3)) :]
    return b"\0" + data[: max_size - 1]


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input as the fuzzer's own mutations would, or as a client that frames its commands oddly."""
    source = random.Random(seed)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        data = mutations.mutate(data, source) if source.random() < 0.8 else atheris.Mutate(data, len(data) + 8)
    return data[:max_size]


if __name__ == "__main__":
    main()

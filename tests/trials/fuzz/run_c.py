"""Fuzz the compiled parts with AddressSanitizer and UBSan: `run_c.py [--seconds N] [--corpus FOLDER]`.

Needs clang with its runtime (Debian: `apt-get install clang`), and Python's headers and shared library.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from asynq_ttl.wire.commands import encode
from support.paths import PACKAGE
from support.task_message import encode_task
from trials.fuzz.corpus import record

_DICTIONARY = ["\\x0d\\x0a", "*1\\x0d\\x0a", "$1\\x0d\\x0a", "EVALSHA", "$-1\\x0d\\x0a", "999999999", "*99\\x0d\\x0a"]
# The script that is untouched, and the beginning of the poll that is remembered.
_POLL = b"*5\r\n$7\r\nEVALSHA\r\n$1\r\np\r\n$1\r\n1\r\n$1\r\nk\r\n"
_DICTIONARY += [words.decode().replace("\r\n", "\\x0d\\x0a") for words in (b"EVALSHA\r\n$1\r\nu\r\n", _POLL)]
# Calls that end tasks as others did, of the scripts that the fuzzer remembers.
_ENDINGS = (
    *(
        encode([b"EVALSHA", b"c", b"2", b"q", b"t:1", b"1", time, encode_task("m", "1", retention_seconds=kept)])
        for time, kept in ((b"1055", 60), (b"9" * 15, 60), (b"5", 0), (b"-5", 0))
    ),
    *(
        encode([b"EVALSHA", b"a", b"3", b"q", b"t:1", b"x", b"1", encode_task("m"), b"999", cutoff, b"1"])
        for cutoff in (b"994", b"x", b"9" * 16)
    ),
    encode([b"EVALSHA", b"c", b"2", b"q", b"t:1", b"1", b"99", encode_task("n", retention_seconds=60)]),
    *(
        encode([b"evalsha", sha, b"2", b"q", b"t:1", b"1", b"5", encode_task("m", headers={"traceparent": "z"})])
        for sha in (b"s", b"o")
    ),
)
# Commands at the edges of what is looked at, a few replies, a message.
_SEEDS = (
    *(encode([b"EVALSHA", b"abc"]), encode([b"x" * 32, b""]), encode([b"x" * 33]), encode([b"a"] * 99)),
    *(encode([b"PING"]) + encode([b"eval", b"x"]), b"+OK\r\n$-1\r\n$3\r\nabc\r\n:1\r\n"),
    *(
        encode([b"GET", b"a{b}c"]),
        encode([b"get", b"{"]),
        encode([b"EVALSHA", b"u", b"99", b"{}k"]),
        b"+OK\r\n-ERR\r\n",
    ),
    *(encode([b"EVALSHA", b"u"]), _POLL + b"$1\r\nv\r\n", encode_task("mail", "1", retention_seconds=3600)),
    encode_task("mail", headers={"x": "y", "traceparent": "z", "TraceState": "a=b"}),
    *(b"+OK\r\n", b"+OK\r\n+OK\r\n"),
    *_ENDINGS,
)


def sources(package: Path = PACKAGE) -> list[Path]:
    """Return the C files and headers of the package."""
    return sorted(package.rglob("*.[ch]"))


def build(folder: Path, package: Path = PACKAGE) -> Path:
    """Compile the fuzzer into a folder and return it.

    Args:
        folder: where the program goes.
        package: where the C files are that it fuzzes, in the folders they have in the package.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    program = folder / "chunk_fuzzer"
    libraries = sysconfig.get_config_var("LIBDIR")
    flags = ["-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined"]
    flags += [f"-I{package}", f"-I{sysconfig.get_path('include')}"]
    link = [f"-L{libraries}", f"-lpython{sysconfig.get_config_var('LDVERSION')}", f"-Wl,-rpath,{libraries}"]
    source = Path(__file__).with_name("chunk_fuzzer.c")
    subprocess.run(["clang", *flags, str(source), "-o", str(program), *link], check=True)
    return program


def fuzz(program: Path, folder: Path, seconds: int, *corpora: Path) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer; what it finds is left in the folder as `crash-...`."""
    words = folder / "dictionary"
    words.write_text("".join(f'"{word}"\n' for word in _DICTIONARY))
    found, seeds = folder / "found-c", folder / "seeds-c"
    for path in (found, seeds):
        path.mkdir(exist_ok=True)
    for number, seed in enumerate(_SEEDS):
        for allocations in (0, *range(128, 144)):  # none fails, or the first, the second ...
            (seeds / f"{number}-{allocations}").write_bytes(bytes([allocations]) + seed)
    # Leaks are looked for at the end, not after each input: Python itself keeps some of what it has made.
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-detect_leaks=0", "-rss_limit_mb=2048", "-timeout=10"]
    command = [str(program), *limits, f"-dict={words}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    folders = [str(path) for path in (found, seeds, *corpora) if path.exists()]
    return subprocess.run([*command, *folders], check=False, text=True, stderr=subprocess.PIPE)


def main() -> None:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="asynq-ttl-corpus-"))
    if not any(corpus.glob("commands/*")):
        record(corpus)
    run = fuzz(build(corpus), corpus, options.seconds, corpus / "commands", corpus / "replies")
    print(run.stderr)  # noqa: T201 - a program
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()

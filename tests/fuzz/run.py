"""Fuzz one target with atheris: `run.py commands|replies|session [--seconds N] [--corpus FOLDER]`.

libFuzzer prints what it does; its last line says how many executions there were. A finding ends it with a stack trace
and leaves the input in the corpus folder as `crash-...`: put it into `regressions/TARGET/` and mend the fault.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["asynq_ttl"]):
    import asynq_ttl.session  # noqa: F401 - imported here so that it is instrumented

from fuzz.corpus import record
from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="asynq-ttl-corpus-"))
    if not any(corpus.glob("commands/*")):
        print(f"{record(corpus)} chunks of a real conversation are in {corpus}", flush=True)  # noqa: T201 - a program
    seeds = [corpus / "replies"] if options.target == "replies" else [corpus / "commands"]
    regressions = Path(__file__).parent / "regressions" / options.target
    found = corpus / f"found-{options.target}"
    found.mkdir(exist_ok=True)
    folders = [str(folder) for folder in (found, *seeds, regressions) if folder.exists()]
    limits = [f"-max_total_time={options.seconds}", "-max_len=8192", "-timeout=10", "-rss_limit_mb=2048"]
    arguments = [sys.argv[0], *limits, f"-artifact_prefix={corpus}/", "-print_final_stats=1", *folders]
    atheris.Setup(arguments, TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

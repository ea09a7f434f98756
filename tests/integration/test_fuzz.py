"""What was ever found by fuzzing, and every chunk of a real conversation, through the targets of `make fuzz`."""

import random
from pathlib import Path

import pytest

from fuzz.corpus import record
from fuzz.targets import TARGETS

REGRESSIONS = Path(__file__).parents[1] / "fuzz" / "regressions"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A real conversation, chunk by chunk."""
    folder = tmp_path_factory.mktemp("corpus")
    assert record(folder) > 50
    return [path.read_bytes() for path in sorted(folder.glob("*/*"))]


@pytest.mark.parametrize("target", TARGETS)
def test_a_real_conversation_keeps_the_invariants(target: str, corpus: list[bytes]) -> None:
    """However it is cut, and with any byte of it changed."""
    source = random.Random(target)
    for sample in corpus:
        for cut in (0, 6, 127, 130, 255):
            data = bytearray(bytes([cut]) + sample[1:])
            TARGETS[target](bytes(data))
            data[source.randrange(len(data))] = source.choice(b"*$\r\n:0-~x")
            TARGETS[target](bytes(data))


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_stays_mended(path: Path) -> None:
    """Each input that a fuzzer once failed on passes its target."""
    TARGETS[path.parent.name](path.read_bytes())

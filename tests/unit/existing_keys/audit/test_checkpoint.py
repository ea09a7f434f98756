import json
from pathlib import Path

import pytest

from asynq_ttl.existing_keys.audit.checkpoint import Checkpoint, Progress
from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.named_files import FileError

RUN = {"upstream": "redis://h:1/0", "queues": ["*"]}


def progress() -> Progress:
    """Return how far an audit has come."""
    tally = Tally(keys=7)
    tally.add_problem("ghost", "q: a")
    tally.group("q", "archived").add_age(5)
    return Progress(1_700_000_000, 42, tally, {("q\udcff", "pending"): [b"a", b"\xff"]})


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call save."""
    monkeypatch.setattr("asynq_ttl.existing_keys.audit.checkpoint._SAVE_SECONDS", 0)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """Names that are not UTF-8 included; nothing else is left beside the file."""
    path = tmp_path / "audit.json"
    Checkpoint(path, RUN).save(progress())
    assert Checkpoint(path, RUN).load(lambda _: True) == progress()
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_of_another_audit_is_as_good_as_none(tmp_path: Path) -> None:
    """So is one that is no checkpoint, and none at all."""
    path = tmp_path / "audit.json"
    Checkpoint(path, RUN).save(progress())
    assert Checkpoint(path, {**RUN, "queues": ["mail"]}).load(lambda _: True) is None
    whole = json.loads(path.read_text())
    for broken in (json.dumps({**whole, "tally": {}}), json.dumps({**whole, "suspects": 5})):
        path.write_text(broken)
        assert Checkpoint(path, RUN).load(lambda _: True) is None
    path.unlink()
    assert Checkpoint(path, RUN).load(lambda _: True) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", "7", "root:x:0:0:root:/root:/bin/bash"])
def test_what_is_no_checkpoint_is_left_alone(content: str, tmp_path: Path) -> None:
    """A mistyped name must not cost anybody a file; a device may have no end."""
    path = tmp_path / "file"
    path.write_text(content)
    for other in (path, Path("/dev/zero")):
        with pytest.raises(FileError, match="is there already, and is no checkpoint: name another file"):
            Checkpoint(other, RUN).load(lambda _: True)
    assert path.read_text() == content


def test_without_a_file_nothing_is_saved() -> None:
    """And nothing is there to go on with."""
    checkpoint = Checkpoint(None, RUN)
    checkpoint.save(progress())
    assert checkpoint.load(lambda _: True) is None
    checkpoint.done()


def test_it_is_saved_only_every_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages come many times a second."""
    monkeypatch.setattr("asynq_ttl.existing_keys.audit.checkpoint._SAVE_SECONDS", 3600)
    path = tmp_path / "audit.json"
    Checkpoint(path, RUN).save(progress())
    assert not path.exists()


def test_an_audit_that_ended_leaves_no_file(tmp_path: Path) -> None:
    """Whether or not there is one."""
    path = tmp_path / "audit.json"
    checkpoint = Checkpoint(path, RUN)
    checkpoint.save(progress())
    checkpoint.done()
    checkpoint.done()
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not taken for a fault of Redis."""
    monkeypatch.setattr("asynq_ttl.existing_keys.audit.checkpoint._SAVE_SECONDS", 0)
    with pytest.raises(FileError, match=r"file\.new: No such file or directory"):
        Checkpoint(tmp_path / "absent" / "file", {}).save(Progress(now=1))


def test_a_part_that_cannot_go_on_begins_anew(tmp_path: Path) -> None:
    """What had been counted before it stays, and nothing of the part itself: it would count twice."""
    path, before = tmp_path / "audit.json", progress()
    before.go_on("0 node-2")
    before.begin_part()
    before.go_on("77 node-2")
    before.tally.add_problem("ghost", "q: b")
    Checkpoint(path, RUN).save(before)
    whole = Checkpoint(path, RUN).load(lambda cursor: cursor == "77 node-2")
    assert whole is not None
    assert (whole.cursor, whole.tally.problems["ghost"]) == ("77 node-2", 2)
    anew = Checkpoint(path, RUN).load(lambda cursor: cursor != "77 node-2")
    assert anew is not None
    assert (anew.cursor, anew.tally.problems["ghost"], anew.now) == ("0 node-2", 1, before.now)
    assert json.dumps(anew.part) == json.dumps(whole.part) == json.dumps(before.part)

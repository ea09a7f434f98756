"""Changes of files are told, however the files are replaced."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from asynq_ttl.net import watched_files
from asynq_ttl.net.watched_files import changes


def written(folder: Path) -> None:
    """The file itself."""
    (folder / "way/file").write_text("new")


def renamed(folder: Path) -> None:
    """Another file takes its place."""
    (folder / "new").write_text("new")
    (folder / "new").rename(folder / "way/file")


def target_written(folder: Path) -> None:
    """The file that a chain of links leads to."""
    (folder / "far/target").write_text("new")


def link_replaced(folder: Path) -> None:
    """The last link of the chain leads elsewhere."""
    (folder / "other").write_text("new")
    (folder / "swap").symlink_to(folder / "other")
    (folder / "swap").rename(folder / "far/link")


def release_switched(folder: Path) -> None:
    """A folder on the way is a link, and is made anew."""
    (folder / "second").mkdir()
    (folder / "second/file").write_text("new")
    (folder / "swap").symlink_to("second")
    (folder / "swap").rename(folder / "current")


def deleted_and_made(folder: Path) -> None:
    """The whole folder is gone for a moment."""
    shutil.rmtree(folder / "way")
    (folder / "way").mkdir()
    (folder / "way/file").write_text("new")


def write_through(file: Path) -> None:
    """Write what the links lead to."""
    file.resolve().write_text("newer")


def plain(folder: Path) -> Path:
    """Return a file in a folder."""
    (folder / "way").mkdir()
    (folder / "way/file").write_text("old")
    return folder / "way/file"


def linked(folder: Path) -> Path:
    """Return a link to a link to a file, in another folder."""
    plain(folder).unlink()
    (folder / "far").mkdir()
    (folder / "far/target").write_text("old")
    (folder / "far/link").symlink_to("target")
    (folder / "way/file").symlink_to("../far/link")
    return folder / "way/file"


def released(folder: Path) -> Path:
    """Return a file in a folder that is a link to the current release."""
    (folder / "first").mkdir()
    (folder / "first/file").write_text("old")
    (folder / "current").symlink_to("first")
    return folder / "current/file"


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (plain, written),
        (plain, renamed),
        (plain, deleted_and_made),
        (linked, target_written),
        (linked, link_replaced),
        (linked, renamed),
        (released, release_switched),
    ],
)
async def test_every_way_to_change_a_file_is_told(
    make: Callable[[Path], Path], change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: what is watched follows the links as they are afterwards."""
    monkeypatch.setattr(watched_files, "POLL_SECONDS", 1)
    file = make(tmp_path)
    seen = ["old"]

    async def watch() -> None:
        async with aclosing(changes([file])) as told:
            async for _ in told:
                if file.exists() and file.read_text() != seen[-1]:
                    seen.append(file.read_text())

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.3)
    change(tmp_path)
    await _until(lambda: seen == ["old", "new"])
    write_through(file)
    await _until(lambda: seen == ["old", "new", "newer"])
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_circle_of_links_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leads to no file; once it does, that is told."""
    monkeypatch.setattr(watched_files, "POLL_SECONDS", 0.2)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    async with aclosing(changes([tmp_path / "a"])) as told:
        await asyncio.wait_for(anext(told), 10)


async def test_nothing_there_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that does not exist yet is looked for again and again."""
    monkeypatch.setattr(watched_files, "POLL_SECONDS", 0.2)
    async with aclosing(changes([tmp_path / "absent/file"])) as told:
        for _ in range(2):
            await asyncio.wait_for(anext(told), 10)


async def _until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not met():  # noqa: ASYNC110 - a file is what is waited for
            await asyncio.sleep(0.05)

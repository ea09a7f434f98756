"""Files that are watched, however they are replaced, and whatever becomes of them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from asynq_ttl.net import watched_files
from asynq_ttl.net.watched_files import FileWatch, Watched
from support.waiting import until

Replace = Callable[[Path, str], None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often."""
    monkeypatch.setattr(watched_files, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(watched_files, "_SETTLE_SECONDS", 0.01)


class Party:
    """Somebody who is told."""

    def __init__(self) -> None:
        self.told = 0
        self.raises = False

    def changed(self) -> None:
        """Take note; raise, if that is wanted."""
        self.told += 1
        if self.raises:
            raise RuntimeError("no")

    async def is_told(self, times: int) -> None:
        """Wait until it has been told so often, and see that it is not told once more."""
        await until(lambda: self.told >= times, "it is not told")
        await asyncio.sleep(0.2)
        assert self.told == times


@asynccontextmanager
async def watched(party: Party, *files: Path) -> AsyncIterator[None]:
    """Watch while the block runs."""
    task = asyncio.create_task(FileWatch([Watched(files, party.changed)]).run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def write(file: Path, text: str) -> None:
    """Write in place."""
    file.write_text(text)


def move_over(file: Path, text: str) -> None:
    """Write beside it, and move that over it."""
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(file)


def delete_and_create(file: Path, text: str) -> None:
    """Remove it, and write it anew."""
    file.unlink()
    file.write_text(text)


def write_through(file: Path, text: str) -> None:
    """Write what a link leads to, in place."""
    file.resolve().write_text(text)


def move_over_target(file: Path, text: str) -> None:
    """Replace what a link leads to."""
    move_over(file.resolve(), text)


def relink(file: Path, text: str) -> None:
    """Let the link lead to another file."""
    other = file.parent / "elsewhere"
    other.write_text(text)
    (file.parent / "fresh").symlink_to(other)
    (file.parent / "fresh").replace(file)


def rename_folder(file: Path, text: str) -> None:
    """Replace the whole folder that the file is in."""
    folder = file.parent
    fresh = folder.with_name("fresh-folder")
    fresh.mkdir()
    (fresh / file.name).write_text(text)
    folder.rename(folder.with_name("old-folder"))
    fresh.rename(folder)


def switch_release(file: Path, text: str) -> None:
    """Let the folder that is a link on the way lead to another one."""
    way = file.parent.parent / "current"
    (way.parent / "release-2").mkdir()
    (way.parent / "release-2" / file.name).write_text(text)
    (way.parent / "fresh").symlink_to("release-2")
    (way.parent / "fresh").replace(way)


def plain(folder: Path) -> Path:
    """Make a file."""
    (folder / "in").mkdir()
    (folder / "in" / "file").write_text("1")
    return folder / "in" / "file"


def link(folder: Path) -> Path:
    """Make a link to a file in another folder."""
    (folder / "link").symlink_to(plain(folder))
    return folder / "link"


def chain(folder: Path) -> Path:
    """Make a link to a link in a folder that is a link."""
    (folder / "by").symlink_to(folder / "second")
    (folder / "second").mkdir()
    (folder / "second" / "link").symlink_to(plain(folder))
    (folder / "link").symlink_to(folder / "by" / "link")
    return folder / "link"


def released(folder: Path) -> Path:
    """Make a file in a folder that is a link to the current release."""
    (folder / "release-1").mkdir()
    (folder / "release-1" / "file").write_text("1")
    (folder / "current").symlink_to("release-1")
    return folder / "current" / "file"


@pytest.mark.parametrize(
    ("make", "replace"),
    [
        (plain, write),
        (plain, move_over),
        (plain, delete_and_create),
        (plain, rename_folder),
        (plain, relink),
        (link, write_through),
        (link, move_over_target),
        (link, relink),
        (link, delete_and_create),
        (chain, write_through),
        (chain, move_over_target),
        (chain, relink),
        (released, switch_release),
        (released, write),
    ],
)
async def test_however_it_is_replaced(make: Callable[[Path], Path], replace: Replace, tmp_path: Path) -> None:
    """A change is told once. What is written again as it was is none."""
    file, party = make(tmp_path), Party()
    async with watched(party, file):
        replace(file, "2")
        await party.is_told(1)
        file.write_text("2")
        await party.is_told(1)


async def test_a_folder_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    """The file is a link into `..data`, which is a link that is moved to a new folder, again and again."""
    file, party = tmp_path / "file", Party()

    def mount(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        (tmp_path / "..fresh").symlink_to(name)
        (tmp_path / "..fresh").replace(tmp_path / "..data")

    mount("..1")
    file.symlink_to("..data/file")
    async with watched(party, file):
        for number in (2, 3):
            mount(f"..{number}")
            await party.is_told(number - 1)


async def test_files_that_belong_together_are_told_together(tmp_path: Path) -> None:
    """A change of any of them is one."""
    files, party = [tmp_path / name for name in ("certificate", "key")], Party()
    for file in files:
        file.write_text("1")
    async with watched(party, *files):
        files[1].write_text("2")
        await party.is_told(1)
        files[0].write_text("2")
        await party.is_told(2)


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe"])
async def test_a_file_that_is_gone_is_named_once(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is no change; when it is back it is one, if there is something else in it."""
    file, party = plain(tmp_path), Party()
    async with watched(party, file):
        for text, told in (("1", 0), ("2", 1)):
            caplog.clear()
            file.unlink()
            if kind == "folder":
                file.mkdir()
            elif kind == "pipe":
                os.mkfifo(file)
            await until(lambda: caplog.messages)
            await asyncio.sleep(0.2)
            assert len(caplog.messages) == 1
            assert str(file) in caplog.text
            if kind == "folder":
                file.rmdir()
            elif kind == "pipe":
                file.unlink()
            file.write_text(text)
            await party.is_told(told)


async def test_a_file_that_is_written_again_and_again_is_read_at_its_end(tmp_path: Path) -> None:
    """However often it was read meanwhile."""
    file, seen = plain(tmp_path), list[str]()
    task = asyncio.create_task(FileWatch([Watched((file,), lambda: seen.append(file.read_text()))]).run())
    for number in range(100):
        file.write_text(str(number))
        await asyncio.sleep(0.005)
    await until(lambda: seen[-1:] == ["99"])
    task.cancel()


async def test_who_raises_is_told_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And keeps nobody else from being told."""
    files = [tmp_path / "one", tmp_path / "two"]
    parties = [Party(), Party()]
    parties[0].raises = True
    for file in files:
        file.write_text("1")
    watch = FileWatch([Watched((file,), party.changed) for file, party in zip(files, parties, strict=True)])
    task = asyncio.create_task(watch.run())
    for times in (1, 2):
        for file in files:
            file.write_text(f"{times}{times}")
        for party in parties:
            await party.is_told(times)
    task.cancel()
    assert "one has changed, and cannot be taken over" in caplog.text


async def test_a_circle_of_links_is_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Until it leads to one."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    party = Party()
    async with watched(party, tmp_path / "a"):
        await until(lambda: "Too many levels of symbolic links" in caplog.text)
        (tmp_path / "b").unlink()
        (tmp_path / "b").write_text("1")
        await party.is_told(1)


def test_where_there_is_nothing_to_watch_that_is_known(tmp_path: Path) -> None:
    """So that nobody begins to."""
    assert not FileWatch([]).watches
    assert FileWatch([Watched((tmp_path,), Party().changed)]).watches

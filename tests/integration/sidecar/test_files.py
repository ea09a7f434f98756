"""Files that a running sidecar uses, reached by links and replaced in every way: what is in them is in force."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.servers import Server, wait_until
from support.serving import Serving, serving

POLICY = "version: 1\nmode: %s\nrules: [{name: all, archived: {ttl: 1h}}]"


def target(folder: Path) -> Path:
    """Return the file that the links lead to."""
    return folder / "far" / "policy"


def chain(folder: Path) -> Path:
    """Make a link, by a folder that is a link, to a link to a file."""
    (folder / "far").mkdir()
    target(folder).write_text(POLICY % "enforce")
    (folder / "way").mkdir()
    (folder / "way" / "link").symlink_to(target(folder))
    (folder / "current").symlink_to("way")
    (folder / "policy.yaml").symlink_to("current/link")
    return folder / "policy.yaml"


def edit(folder: Path) -> None:
    """Edit the file itself."""
    target(folder).write_text(POLICY % "shadow")


def replace(folder: Path) -> None:
    """Move another file over it."""
    (folder / "fresh").write_text(POLICY % "shadow")
    (folder / "fresh").replace(target(folder))


def delete(folder: Path) -> None:
    """Delete it for a while."""
    target(folder).unlink()
    target(folder).write_text(POLICY % "shadow")


def relink(folder: Path) -> None:
    """Let the last link lead elsewhere."""
    (folder / "other").write_text(POLICY % "shadow")
    (folder / "fresh").symlink_to(folder / "other")
    (folder / "fresh").replace(folder / "way" / "link")


def switch(folder: Path) -> None:
    """Let the folder on the way be another one, as Kubernetes and releases do."""
    (folder / "way-2").mkdir()
    (folder / "way-2" / "link").write_text(POLICY % "shadow")
    (folder / "fresh").symlink_to("way-2")
    (folder / "fresh").replace(folder / "current")


def in_force(process: Serving, mode: str) -> bool:
    """Say whether a policy of this mode has come into force."""
    return f"is in force, mode {mode}" in process.told()


@pytest.mark.parametrize("change", [edit, replace, delete, relink, switch])
def test_a_policy_that_a_link_leads_to_is_followed(
    change: Callable[[Path], None], redis_server: Server, tmp_path: Path
) -> None:
    """Then it is edited again where the links lead now."""
    policy = chain(tmp_path)
    options = ["--listen", "127.0.0.1:0", "--upstream", redis_server.url, "--admin", "off", "--policy", policy]
    with serving(tmp_path, *options) as process:
        process.wait_for("listening at")
        change(tmp_path)
        wait_until(lambda: in_force(process, "shadow"), "it is not followed")
        policy.resolve().write_text(POLICY % "off")
        wait_until(lambda: in_force(process, "off"), "it is not followed any more")
        assert process.faults == []

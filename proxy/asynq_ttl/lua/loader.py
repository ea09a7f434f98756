"""Reads our Lua texts. Each is named by its path below `lua/`, without the ending: `sweep/sweep_active`."""

from importlib import resources


def load(*names: str) -> str:
    """Return the text of some files, one after the other; what an earlier one defines is there for a later one."""
    folder = resources.files("asynq_ttl").joinpath("lua")
    return "".join(folder.joinpath(*f"{name}.lua".split("/")).read_text() for name in names)


def load_on_one_line(name: str) -> str:
    """Return the text of a file as one line without its comments, which stand on lines of their own."""
    lines = load(name).splitlines()
    return " ".join(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("--"))

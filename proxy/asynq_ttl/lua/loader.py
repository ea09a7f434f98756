"""Reads our Lua texts. Each is named by its path below `lua/`, without the ending: `sweep/sweep_active`.

Texts are read as package data, so they are found in a wheel as well. Nothing is kept: whoever runs a text keeps it.
"""

from importlib import resources


def load(*names: str) -> str:
    """Return the texts of some files as one text, in their order, so that a later one can use what an earlier defines.

    Args:
        names: the names of the files.

    Raises:
        FileNotFoundError: there is no such file.
    """
    folder = resources.files("asynq_ttl").joinpath("lua")
    return "".join(folder.joinpath(*f"{name}.lua".split("/")).read_text() for name in names)


def names(folder: str) -> list[str]:
    """Return the names of all texts of a folder, sorted."""
    files = resources.files("asynq_ttl").joinpath("lua", folder).iterdir()
    return sorted(f"{folder}/{file.name.removesuffix('.lua')}" for file in files if file.name.endswith(".lua"))


def load_on_one_line(name: str) -> str:
    """Return the text of a file as one line, without its comments, each of which has to be on a line of its own."""
    lines = load(name).splitlines()
    return " ".join(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("--"))

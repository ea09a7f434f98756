"""What is read of a file with a secret, and what is said of one that cannot be read."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from asynq_ttl.net.secret_file import SecretFileError, read_secret, read_secrets
from support.paths import PACKAGE


def test_a_secret_is_what_is_in_the_file(tmp_path: Path) -> None:
    """White space around it, such as the newline of an editor, is no part of it; white space in it is."""
    file = tmp_path / "secret"
    file.write_text("\n  p\u00e4ss word \r\n")
    assert read_secret(file) == read_secret(str(file)) == "p\u00e4ss word"
    file.write_text("another")
    assert read_secret(file) == "another"
    file.write_text("\n")
    assert read_secret(file) == ""


def test_secrets_are_lines(tmp_path: Path) -> None:
    """Empty lines are none; they are bytes, since clients may show bytes that are no text."""
    file = tmp_path / "secrets"
    file.write_bytes(b"one\r\n\n  two \n\xff\n")
    assert read_secrets(file) == [b"one", b"two", b"\xff"]
    file.write_bytes(b"")
    assert read_secrets(file) == []


@pytest.mark.parametrize("read", [read_secret, read_secrets])
def test_a_file_that_cannot_be_read_is_named(read: Callable[[Path], object], tmp_path: Path) -> None:
    """In one line, with the reason."""
    for file, reason in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path("a\0b"), "it is no file name"),
    ):
        with pytest.raises(SecretFileError) as caught:
            read(file)
        assert str(caught.value) == f"{file}: {reason}"


def test_an_error_shows_nothing_of_the_content(tmp_path: Path) -> None:
    """What is no text may be a key all the same."""
    file = tmp_path / "key"
    file.write_bytes(b"secret\xfe")
    with pytest.raises(SecretFileError) as caught:
        read_secret(file)
    assert str(caught.value) == f"{file}: it is no text"
    assert caught.value.__suppress_context__


def test_nobody_else_reads_secrets() -> None:
    """One module knows how a secret is read, and what may be said when it is not."""
    reads = re.compile(r"(password|secret|token)\w*\)?\.(read_text|read_bytes|open)\(", re.IGNORECASE)
    sources = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert [name for name, source in sources.items() if reads.search(source)] == []
    users = {name for name, source in sources.items() if "import SecretFileError" in source}
    assert {"upstream/endpoint.py", "relay/client_login.py", "existing_keys/clients.py", "cli/serve.py"} <= users


def test_a_file_without_an_end() -> None:
    """Is not read to it."""
    with pytest.raises(SecretFileError, match="too long"):
        read_secret("/dev/zero", once=True)


def test_only_what_is_read_once_may_be_a_pipe() -> None:
    """A pipe has nothing to say the second time."""
    reading, writing = os.pipe()
    os.write(writing, b"secret\n")
    os.close(writing)
    for read in (read_secret, read_secrets):
        with pytest.raises(SecretFileError, match=r"^/dev/fd/\d+: is no regular file$"):
            read(f"/dev/fd/{reading}")
    assert read_secret(f"/dev/fd/{reading}", once=True) == "secret"
    os.close(reading)

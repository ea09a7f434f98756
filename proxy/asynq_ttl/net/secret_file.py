"""Secrets in files: passwords and tokens. The only module that reads one.

A file is read anew each time it is asked for, so that a secret can be replaced while the sidecar runs. Only what is
read once may be a pipe.

Invariant: an error says which file it is and why it cannot be read, in one line, and nothing of what is in it.
"""

from pathlib import Path

from asynq_ttl.net.bounded_file import read_bounded, require_regular

# Longer than any secret; a device may have no end.
_MOST_BYTES = 1 << 20


class SecretFileError(ValueError):
    """A secret that cannot be read. The message is the file's name and the reason."""


def read_secret(file: Path | str, *, once: bool = False) -> str:
    """Return the secret that is in a file, without the white space around it; empty where there is nothing else.

    Args:
        file: the file.
        once: it is not read again, so it may be a pipe.

    Raises:
        SecretFileError: the file cannot be read, or is no UTF-8.
    """
    try:
        return _content(file, once=once).decode().strip()
    except UnicodeDecodeError:
        raise SecretFileError(f"{file}: it is no text") from None


def read_token(file: Path | str) -> str:
    """Return the secret that is in a file, which has to have one.

    Raises:
        SecretFileError: the file cannot be read, is no UTF-8, or is empty.
    """
    token = read_secret(file)
    if not token:
        raise SecretFileError(f"{file}: it is empty")
    return token


def read_secrets(file: Path | str) -> list[bytes]:
    """Return the secrets that are in a file, one a line, without the white space around them and without empty lines.

    Raises:
        SecretFileError: the file cannot be read.
    """
    return [line.strip() for line in _content(file).splitlines() if line.strip()]


def _content(file: Path | str, *, once: bool = False) -> bytes:
    try:
        if not once:
            require_regular(file)
        content = read_bounded(file, _MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: there is a NUL in the name
        raise SecretFileError(f"{file}: {getattr(error, 'strerror', None) or 'it is no file name'}") from None
    if len(content) > _MOST_BYTES:
        raise SecretFileError(f"{file}: it is too long for a secret")
    return content

from pathlib import Path

import pytest

from asynq_ttl.existing_keys.named_files import FileError, named


def test_an_error_of_the_file_system_names_the_file() -> None:
    """With the system's reason, and what to do where there is something."""
    with pytest.raises(FileError, match=r"^/dev/full: No space left on device$"), named(Path("/dev/full")):
        Path("/dev/full").write_text("x")
    with pytest.raises(FileError, match=r"No space left on device; try again$"), named(Path("/dev/full"), "try again"):
        Path("/dev/full").write_text("x")


def test_other_errors_stay_what_they_are() -> None:
    """They are none of a file's."""
    with pytest.raises(KeyError), named(Path("/dev/full")):
        raise KeyError

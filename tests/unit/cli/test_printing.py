import pytest

from asynq_ttl.cli.printing import console, show


def test_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Parts for rich, one below the other."""
    show("[bold]b[/]", "c")
    assert capsys.readouterr().out == "b\nc\n"


def test_no_word_becomes_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    """Types of tasks are words with colons, and rich has pictures for some of them."""
    show("user:key:rotate")
    assert capsys.readouterr().out == "user:key:rotate\n"


def test_nobody_reads_any_more() -> None:
    """What rich would hide is raised."""
    with pytest.raises(BrokenPipeError):
        console().on_broken_pipe()

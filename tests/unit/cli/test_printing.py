import pytest

from asynq_ttl.cli.printing import console, show


def test_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Parts for rich, one below the other."""
    show("[bold]b[/]", "c")
    assert capsys.readouterr().out == "b\nc\n"


def test_nobody_reads_any_more() -> None:
    """What rich would hide is raised."""
    with pytest.raises(BrokenPipeError):
        console().on_broken_pipe()

"""The progress bar of the commands that look at many keys."""

import pytest

from asynq_ttl.cli.progress_bar import progress_bar


def test_progress_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar is shown to a terminal only."""
    with progress_bar() as progress:
        progress.advance(progress.add_task("audit", total=2))
        assert progress.disable
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")

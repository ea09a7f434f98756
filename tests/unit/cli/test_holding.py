"""What `hold` and `release` print, and how they end."""

import pytest

from asynq_ttl.cli.holding import tell_each
from asynq_ttl.existing_keys.holds import Told


def test_each_task_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What a terminal would obey is not printed."""
    tell_each([Told(b"a", "held", done=True), Told(b"\x1b\xff", "held", done=True)])
    assert capsys.readouterr().out == "a  held\n??  held\n"


def test_the_status_says_whether_all_were_done(capsys: pytest.CaptureFixture[str]) -> None:
    """All are told, also after one that was not."""
    with pytest.raises(SystemExit) as ended:
        tell_each([Told(b"a", "not held", done=False), Told(b"b", "held", done=True)])
    assert ended.value.code == 1
    assert capsys.readouterr().out == "a  not held\nb  held\n"

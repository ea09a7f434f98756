"""The doctor names all missing rights, in the group of those who need them."""

import re
from collections.abc import Iterable

from asynq_ttl.existing_keys import needed_rights
from asynq_ttl.existing_keys.audit.problems import PROBLEMS
from asynq_ttl.existing_keys.doctor import rights
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.existing_keys.refused import Refused
from asynq_ttl.net.address import parse_upstream
from support.paths import DOCS
from support.scripted_database import ScriptedDatabase


class Narrow(ScriptedDatabase):
    """A database whose user lacks rights.

    Args:
        denied: the commands that it may not run.
        unknown: those that the server does not know.
        keys: the beginning of the keys that it has no right to.
        url: where it is.
    """

    def __init__(
        self,
        denied: Iterable[str] = (),
        unknown: Iterable[str] = (),
        keys: bytes | None = None,
        url: str = "redis://h:1/0",
    ) -> None:
        super().__init__()
        self.upstream = parse_upstream(url)
        self.keys: list[bytes] = []
        self._denied, self._unknown, self._keys = set(denied), set(unknown), keys

    def refused(self, commands: Iterable[str], key: bytes) -> Refused:
        """Return what the user lacks."""
        self.keys.append(key)
        names = list(commands)
        denied, unknown = (tuple(name for name in names if name in some) for some in (self._denied, self._unknown))
        return Refused(denied, unknown, self._keys is not None and key.startswith(self._keys))


def found_in(database: Narrow) -> dict[str, Finding]:
    """Return what was found, by its code."""
    return {finding.code: finding for finding in rights.check(database, ["q"])}


def test_whoever_may_all_is_told_so() -> None:
    """Group by group; nothing but the lock is tried on keys that are not of a queue."""
    database = Narrow()
    found = found_in(database)
    assert {finding.severity for finding in found.values()} == {Severity.FINE}
    assert {"rights-wrappers", "rights-sidecar", "rights-sweeper", "rights-lock", "rights-sink"} <= set(found)
    assert set(database.keys) == {b"asynq:{q}:asynq-ttl-probe", b"asynq-ttl:probe"}


def test_every_missing_right_is_named_where_it_matters() -> None:
    """All at once, with what grants it."""
    found = found_in(Narrow(["ZREVRANGE", "PEXPIRE", "SCRIPT|LOAD", "PING"]))
    assert found["rights-wrappers"].what == "the user in the URL may not run PEXPIRE"
    assert found["rights-sidecar"].what == "the user in the URL may not run PING, SCRIPT LOAD"
    assert found["rights-sweeper"].what == "the user in the URL may not run PEXPIRE, SCRIPT LOAD, ZREVRANGE"
    assert found["rights-sweeper"].advice == "give it +pexpire +script|load +zrevrange ~asynq:*"
    assert found["rights-sink"].what == "the user in the URL may not run PEXPIRE"
    assert found["rights-wrappers"].severity is found["rights-sidecar"].severity is Severity.DANGER
    assert found["rights-tools"].severity is Severity.NOTICE
    assert found["rights-changing"].what == "the user in the URL may not run ZREVRANGE"
    assert found["rights-lock"].severity is Severity.FINE


def test_a_renamed_command_is_missing_too() -> None:
    """No right brings it back."""
    found = found_in(Narrow(unknown=["EVALSHA"]))
    assert found["rights-sweeper"].what == "the server does not know EVALSHA"
    assert "rename-command" in found["rights-sweeper"].advice


def test_the_lock_has_keys_of_its_own() -> None:
    """Without them nothing is swept."""
    found = found_in(Narrow(keys=b"asynq-ttl:"))
    bad = {code for code, finding in found.items() if finding.severity is not Severity.FINE}
    assert bad == {"rights-lock"}
    assert found["rights-lock"].advice == "give it ~asynq-ttl:*"


def test_what_is_only_nice_to_have_is_a_notice() -> None:
    """With what is lost."""
    found = found_in(Narrow(["CLIENT|SETNAME"], ["INFO"]))
    bad = {code: finding for code, finding in found.items() if finding.severity is not Severity.FINE}
    assert set(bad) == {"rights-spared"}
    assert bad["rights-spared"].severity is Severity.NOTICE
    assert "may not run CLIENT SETNAME, and the server does not know INFO" in bad["rights-spared"].what
    assert needed_rights.SPARED["CLIENT|SETNAME"].replace("`", "") in bad["rights-spared"].why


def test_behind_sentinels_a_master_is_asked_for_its_role() -> None:
    """Elsewhere that right is not needed."""
    assert "rights-sentinels" not in found_in(Narrow(["ROLE"]))
    found = found_in(Narrow(["ROLE"], url="redis+sentinel://h:1/mymaster/0"))
    assert found["rights-sentinels"].severity is Severity.DANGER


def test_the_documentation_has_every_problem() -> None:
    """With its severity."""
    text = (DOCS / "existing-keys.md").read_text().partition("## audit")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", text, re.MULTILINE)) == {
        code: severity.name.lower() for code, (severity, *_) in PROBLEMS.items()
    }

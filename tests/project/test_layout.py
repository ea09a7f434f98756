"""The package stays as it is laid out, and each check of that finds what it is there to find."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support import layout
from support.paths import PACKAGE, ROOT

TESTS = ROOT / "tests"

OUTSIDE = {
    ("net/tls.py", "context.*"): "an ssl.SSLContext is set up by its attributes",
    ("net/tls.py", "outer.sni_callback"): "an ssl.SSLContext is set up by its attributes",
    ("net/tls.py", "connection.context"): "how an SNI callback hands a connection another certificate",
    (
        "relay/connection.py",
        "traffic.bytes_from_clients",
    ): "a call for each chunk costs as much as all else here",
    (
        "relay/connection.py",
        "traffic.bytes_from_redis",
    ): "a call for each chunk costs as much as all else here",
}
"""What may be set on another object, and why: module, target, reason."""


def agreed(complaints: list[str]) -> None:
    """Fail with the complaints, if there are any."""
    if complaints:
        pytest.fail("\n".join(["the layout:", *complaints]), pytrace=False)


# --- the package itself -------------------------------------------------------------------------------------


def test_one_look_takes_in_the_top() -> None:
    """A newcomer sees at most sixteen packages and four modules."""
    agreed(layout.crowded(PACKAGE))


def test_each_package_says_what_it_is() -> None:
    """A package's `__init__.py` is a docstring of its own and nothing else."""
    agreed(layout.undescribed(PACKAGE))


def test_nothing_is_too_long() -> None:
    """Files, classes and functions can be read at one go."""
    agreed(layout.long(PACKAGE))


def test_each_module_has_its_unit_tests() -> None:
    """The tests of a module are where its path says."""
    agreed(layout.untested(PACKAGE, TESTS / "unit"))


def test_integration_tests_are_sorted_by_package() -> None:
    """The folders of integration tests are called as the packages are."""
    agreed(layout.misplaced_folders(PACKAGE, TESTS / "integration"))


def test_lua_is_loaded_in_one_place() -> None:
    """Only the loader knows where Lua files are."""
    agreed(layout.lua_loaders(PACKAGE))


def test_secrets_are_read_in_one_place() -> None:
    """Passwords and tokens in files are all read alike."""
    agreed(layout.secret_readers(PACKAGE))


def test_keys_are_put_together_in_one_place() -> None:
    """Only `asynq.keys` knows what Asynq's keys look like."""
    agreed(layout.key_builders(PACKAGE))


def test_no_two_classes_have_one_name() -> None:
    """The name of a public class means one thing."""
    agreed(layout.namesakes(PACKAGE))


def test_nobody_sets_attributes_of_others() -> None:
    """What an object has to know it is told by its constructor or by a method."""
    agreed(layout.assigned_from_outside(PACKAGE, OUTSIDE))


def test_an_import_is_an_import() -> None:
    """No import is hidden from import-linter."""
    agreed(layout.type_checking(PACKAGE))


def test_the_import_contract_is_short_and_names_packages() -> None:
    """Ten rows say which way imports go; what is pure, and what is covered whole, are packages."""
    agreed(layout.poor_contracts(ROOT))


# --- the checks ---------------------------------------------------------------------------------------------

GOOD = {
    "__init__.py": '"""The glossary."""',
    "asynq/__init__.py": '"""What Asynq writes."""',
    "asynq/keys.py": 'PREFIX = b"asynq:{" + b"}:t:"',
    "lua/__init__.py": '"""Our Lua texts."""',
    "lua/loader.py": 'folder.joinpath("lua", f"{name}.lua")',
    "net/__init__.py": '"""Sockets."""',
    "net/secret_file.py": "def read_secret(file): return file.read_text().strip()",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder and return it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def complaints_of(folder: Path) -> list[str]:
    """Return what the checks of a package's own source say."""
    checks: tuple[Callable[[Path], list[str]], ...] = (
        layout.crowded,
        layout.undescribed,
        layout.long,
        layout.lua_loaders,
        layout.secret_readers,
        layout.key_builders,
        layout.namesakes,
        lambda package: layout.assigned_from_outside(package, {}),
        layout.type_checking,
    )
    return [complaint for check in checks for complaint in check(folder)]


def test_a_good_package_is_passed(tmp_path: Path) -> None:
    """What the bad examples below are made of is no fault by itself."""
    assert complaints_of(write(tmp_path, GOOD)) == []


def body(lines: int) -> str:
    """Return so many lines of a body."""
    return "    x = 1\n" * lines


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({f"m{number}.py": "" for number in range(4)}, "5 modules at the top, at most 4"),
        ({f"p{number}/__init__.py": f'"""Owns {number}."""' for number in range(14)}, "17 packages, at most 16"),
        ({"net/tcp/sockets.py": ""}, "net/tcp/__init__.py: say what"),
        ({"net/__init__.py": '"""net."""'}, "net/__init__.py: say what"),
        ({"net/__init__.py": '"""What Asynq writes."""'}, "net/__init__.py: it has the docstring of asynq/__init__.py"),
        ({"net/__init__.py": '"""Sockets."""\nimport socket'}, "net/__init__.py: only a docstring belongs here"),
        ({"net/tls.py": "x = 1\n" * 401}, "net/tls.py: 401 lines, at most 400"),
        ({"lua/sweep/sweep.lua": "x = 1\n" * 401}, "lua/sweep/sweep.lua: 401 lines, at most 400"),
        ({"net/tls.py": f"class A:\n{body(250)}"}, "net/tls.py:1: class A has 251 lines, at most 250"),
        ({"net/tls.py": f"\ndef f():\n{body(40)}"}, "net/tls.py:2: function f has 41 lines, at most 40"),
        ({"net/tls.py": f"async def f():\n{body(40)}"}, "net/tls.py:1: function f has 41 lines, at most 40"),
        ({"net/tls.py": 'x = files("asynq_ttl").joinpath("lua")'}, "net/tls.py:1: 'lua' names a Lua file"),
        ({"net/tls.py": 'x = read("sweep.lua")'}, "net/tls.py:1: 'sweep.lua' names a Lua file"),
        ({"net/tls.py": "def f(file): password = file.read_text()"}, "net/tls.py:1: f reads a secret"),
        ({"net/tls.py": "def f(password):\n    return password == x.read_bytes()"}, "net/tls.py:2: f reads a secret"),
        ({"net/tls.py": "def _token(file):\n    with open(file) as x: pass"}, "net/tls.py:2: _token reads a secret"),
        ({"net/tls.py": "def f(x):\n    with x.token_file.open(): pass"}, "net/tls.py:2: f reads a secret"),
        ({"net/tls.py": "def f(q): return b'asynq:{' + q"}, "net/tls.py:1: b'asynq:{' is part of a key"),
        ({"net/tls.py": "def f(q): return f'{q}}}:t:'"}, "net/tls.py:1: '}:t:' is part of a key"),
        (
            {"net/a.py": "class Call: ...", "net/b.py": "class Call: ..."},
            "net/a.py:1, net/b.py:1: each has a class Call",
        ),
        ({"net/tls.py": "shared.login = login"}, "net/tls.py:1: shared.login is set from outside"),
        ({"net/tls.py": "def f(self): self.shared.login = x"}, "net/tls.py:1: self.shared.login is set from outside"),
        ({"net/tls.py": "relay.bytes += 1"}, "net/tls.py:1: relay.bytes is set from outside"),
        ({"net/tls.py": "a, (b.c, *d) = e"}, "net/tls.py:1: b.c is set from outside"),
        ({"net/tls.py": "del a.b"}, "net/tls.py:1: a.b is set from outside"),
        ({"net/tls.py": "setattr(a, 'b', 1)"}, "net/tls.py:1: a.b is set from outside"),
        ({"net/tls.py": "object.__setattr__(a, 'b', 1)"}, "net/tls.py:1: a.b is set from outside"),
        ({"net/tls.py": "import typing\nif typing.TYPE_CHECKING: pass"}, "net/tls.py:2: TYPE_CHECKING hides"),
        ({"net/tls.py": "if TYPE_CHECKING: pass"}, "net/tls.py:1: TYPE_CHECKING hides"),
    ],
)
def test_a_bad_package_is_found(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    """One complaint names the place, and no other check complains of it."""
    (told,) = complaints_of(write(tmp_path, GOOD | files))
    assert told.startswith(complaint)


def test_what_an_object_sets_on_itself_is_nothing(tmp_path: Path) -> None:
    """Nor is a local variable, an item, or an attribute that is only read."""
    source = "def f(self, a):\n    self.a = a.b\n    a[0] = a.b\n    a = object.__setattr__(self, 'x', 1)"
    assert complaints_of(write(tmp_path, GOOD | {"net/tls.py": source})) == []


def test_an_exception_is_used_or_removed(tmp_path: Path) -> None:
    """An exception is for one module; one that nothing needs is told."""
    package = write(tmp_path, GOOD | {"net/tls.py": "a.b = 1\na.c = 1", "net/tcp.py": "a.b = 1"})
    allowed = {("net/tls.py", "a.*"): "", ("net/tcp.py", "a.b"): ""}
    assert layout.assigned_from_outside(package, allowed) == []
    assert layout.assigned_from_outside(package, {("net/tls.py", "a.*"): ""})[0].startswith("net/tcp.py:1: a.b is set")
    (told,) = layout.assigned_from_outside(package, allowed | {("net/tcp.py", "d.e"): ""})
    assert told == "net/tcp.py: d.e is not set any more; remove the exception"


def test_tests_that_are_missing_or_lost_are_found(tmp_path: Path) -> None:
    """Each module and each compiled part has its test file, at the mirrored path and nowhere else."""
    package = write(tmp_path / "package", {"__main__.py": "", "times.py": "", "wire/resp.py": "", "wire/_resp.c": ""})
    tests = write(tmp_path / "unit", {"test_times.py": "", "wire/test_resp.py": ""})
    assert layout.untested(package, tests) == []
    write(tmp_path, {"unit/wire/test_times.py": "", "package/net/tls.py": "", "package/net/_fast.c": ""})
    assert layout.untested(package, tests) == [
        "net/_fast.c: write unit/net/test_fast.py, which tests what the module promises",
        "net/tls.py: write unit/net/test_tls.py, which tests what the module promises",
        "unit/wire/test_times.py: there is no such module; name it after the one it tests, or move it",
    ]


def test_a_folder_of_no_package_is_found(tmp_path: Path) -> None:
    """Neither a file beside the folders nor a folder of another name is passed."""
    package = write(tmp_path / "package", GOOD)
    tests = write(tmp_path / "integration", {"net/test_tls.py": "", "misc/test_a.py": "", "test_b.py": ""})
    found = layout.misplaced_folders(package, tests)
    assert [complaint.split(":")[0] for complaint in found] == ["integration/misc", "integration/test_b.py"]


CONTRACTS = """
[[tool.importlinter.contracts]]
name = "One way"
type = "layers"
layers = [{rows}]

[[tool.importlinter.contracts]]
name = "Pure"
type = "forbidden"
source_modules = ["asynq_ttl.events", "{pure}"]
"""


@pytest.mark.parametrize(
    ("rows", "pure", "core", "complaint"),
    [
        (10, "asynq_ttl.wire", "*/asynq_ttl/events.py,*/asynq_ttl/wire/*", None),
        (11, "asynq_ttl.wire", "*/asynq_ttl/wire/*", "pyproject.toml: 11 rows of layers, at most 10"),
        (10, "asynq_ttl.wire.commands", "*/asynq_ttl/wire/*", "pyproject.toml: 'Pure' names asynq_ttl.wire.commands"),
        (10, "asynq_ttl.wire", "*/asynq_ttl/wire/commands.py", "Makefile: CORE names */asynq_ttl/wire/commands.py"),
    ],
)
def test_a_poor_contract_is_found(tmp_path: Path, rows: int, pure: str, core: str, complaint: str | None) -> None:
    """Too many rows, and files where packages are to be named."""
    contracts = CONTRACTS.format(rows=", ".join(f'"row{number}"' for number in range(rows)), pure=pure)
    told = layout.poor_contracts(write(tmp_path, {"pyproject.toml": contracts, "Makefile": f"CORE := {core}\n"}))
    assert [each.split(";")[0] for each in told] == ([complaint] if complaint else [])


def test_there_is_one_contract_of_layers(tmp_path: Path) -> None:
    """A second one would hide half of the way imports go."""
    contract = CONTRACTS.format(rows='"a"', pure="asynq_ttl.wire")
    project = write(tmp_path, {"pyproject.toml": contract + contract, "Makefile": ""})
    assert layout.poor_contracts(project)[0].startswith("pyproject.toml: 2 contracts of layers")

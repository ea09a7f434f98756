"""What the documentation lists is what the code has: options, spans, metrics, errors, warnings, reasons and links."""

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.cli import serve as serving
from asynq_ttl.events import Action, FailOpen
from asynq_ttl.sidecar.admin.server import Admin, AdminSettings
from asynq_ttl.telemetry.decisions import MAX_DECISION_SERIES
from support.in_process import make_sidecar
from support.paths import PACKAGE, ROOT

OPTIONS = ROOT / "docs" / "options.md"
FAILURE_MODES = ROOT / "docs" / "failure-modes.md"
TELEMETRY = ROOT / "docs" / "telemetry.md"
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "tests/harness/README.md")
    for page in ROOT.glob(pattern)
)

_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# Attributes of spans and labels of metrics, by the namespaces they are in.
_ATTRIBUTE = re.compile(r"(?:asynq|asynq_ttl|db|error|messaging|server)(?:\.[a-z_]+)+")


# --- what the documents say ---------------------------------------------------------------------------------


def column(page: Path, heading: str, number: int) -> list[str]:
    """Return what stands in backticks in one column of the tables under a heading, in order."""
    _, _, rest = page.read_text().partition(f"\n{heading}\n")
    assert rest, f"{page.name} has no heading {heading!r}"
    section = re.split(rf"\n#{{1,{heading.count('#')}}} ", rest, maxsplit=1)[0]
    rows = [re.split(r"(?<!\\)\|", line) for line in section.splitlines() if line.startswith("|")]
    return [text.replace("\\|", "|") for row in rows for text in _CODE.findall(row[number])]


# --- what the code has --------------------------------------------------------------------------------------


def tree(module: str) -> ast.Module:
    """Return a module of the package, such as `telemetry/spans`, as a syntax tree."""
    return ast.parse((PACKAGE / f"{module}.py").read_text())


@cache
def everything() -> tuple[ast.AST, ...]:
    """Return every node of every module."""
    return tuple(node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))


def called(call: ast.Call) -> str:
    """Return the name of the function or method that is called; empty where it has none."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def template(node: ast.AST) -> str:
    """Return a text of the code with `%s` for what is put in when it runs; empty where it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or "%s" for part in node.values)
    return ""


def span_attributes() -> set[str]:
    """Return the attributes that are set on spans and on their events."""
    keys: list[ast.AST | None] = []
    modules = "telemetry/finished_span", "telemetry/span_attributes"
    for function in (node for module in modules for node in ast.walk(tree(module))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Dict):
                keys += node.keys
            elif isinstance(node, ast.Subscript):
                keys.append(node.slice)
    texts = {template(key) for key in keys if key is not None}
    return {text for text in texts if _ATTRIBUTE.fullmatch(text)}


def span_names() -> set[str]:
    """Return the first words of the names of spans."""
    names = {
        template(node.value) or template(node)
        for function in ast.walk(tree("telemetry/spans"))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "name"
    }
    decided = {
        template(keyword.value)
        for module in ("by_effect", "by_hand", "replacing", "reviving", "scheduler_history")
        for node in ast.walk(tree(f"rewriting/{module}"))
        if isinstance(node, ast.Call) and called(node) == "Decision"
        for keyword in node.keywords
        if keyword.arg == "operation"
    }
    kinds = {Kind.COMPLETE.value, Kind.ARCHIVE.value}
    return ({name.split()[0] for name in names} | decided | kinds) - {"%s", ""}


def client_errors() -> set[str]:
    """Return the error replies that the sidecar itself writes."""
    return _longest({template(node) for node in everything() if template(node).startswith("ERR ")})


def warnings() -> set[str]:
    """Return the warnings and errors that are logged."""
    found = set()
    for node in everything():
        if isinstance(node, ast.Call) and node.args:
            if called(node) in ("warning", "error", "exception", "critical"):
                found.add(template(node.args[0]))
            elif called(node) == "_warn":
                found.add(template(node.args[-1]))
    return found - {"", "%s"}


def _longest(texts: set[str]) -> set[str]:
    """Leave out the constant beginnings of texts that go on."""
    return {text for text in texts if not any(other != text and other.startswith(text) for other in texts)}


def _same(documented: list[str], templates: set[str]) -> None:
    """See that each text of the code is documented by one line, and each line has such a text."""
    patterns = {text: ".+".join(map(re.escape, text.split("%s"))) for text in templates}
    missing = {
        text for text, pattern in patterns.items() if not any(re.fullmatch(pattern, line) for line in documented)
    }
    assert not missing, "in the code, not in the documentation"
    unknown = {line for line in documented if not any(re.fullmatch(pattern, line) for pattern in patterns.values())}
    assert not unknown, "in the documentation, not in the code"


# --- the tests ----------------------------------------------------------------------------------------------


def test_the_options_of_serve_are_documented() -> None:
    """Each option stands in the table with its variable and its default, and no other does."""
    options = [param for param in serving.serve.params if isinstance(param, click.Option)]
    assert column(OPTIONS, "## Options", 1)[: len(options)] == [param.opts[0] for param in options]
    variables = [text for text in column(OPTIONS, "## Options", 2) if text.startswith("ASYNQ_TTL_")]
    assert variables == [param.envvar for param in options]
    defaults = {str(param.default) for param in options if isinstance(param.default, str | int | float)}
    assert defaults - {"False"} <= set(column(OPTIONS, "## Options", 3))


def test_the_attributes_of_spans_are_documented() -> None:
    """The table of attributes is that of the code."""
    assert sorted(column(TELEMETRY, "### Attributes", 1)) == sorted(span_attributes())


def test_the_actions_are_documented() -> None:
    """The table of actions is the enumeration."""
    assert set(column(TELEMETRY, "### Actions", 1)) == {action.value for action in Action}


def test_the_spans_are_documented() -> None:
    """The table of spans is that of the code."""
    assert {name.split()[0] for name in column(TELEMETRY, "### Names", 1)} == span_names()


def test_the_metrics_are_documented() -> None:
    """The table of metrics is that of the code, with kind, unit and labels."""
    declared = make_sidecar().telemetry.metrics.declared
    assert sorted(column(TELEMETRY, "## Metrics", 1)) == sorted(declared)
    _, _, section = TELEMETRY.read_text().partition("\n## Metrics\n")
    for name, instrument in declared.items():
        (row,) = re.findall(rf"^\| `{re.escape(name)}` \| (.*) \|(.*)\|$", section, flags=re.MULTILINE)
        unit = {"s": " in s"}.get(instrument.unit, "")
        assert row[0].startswith(f"{instrument.kind}{unit}: "), name
        assert tuple(_CODE.findall(row[1]))[: len(instrument.labels)] == instrument.labels, name
        assert bool(row[1].strip()) == bool(instrument.labels), name
    assert f"{MAX_DECISION_SERIES:,}" in TELEMETRY.read_text()


async def test_the_calls_of_the_admin_server_are_documented() -> None:
    """The table of calls is that of the admin server."""
    admin = Admin(AdminSettings(None), make_sidecar())
    calls = [f"{method} {path}" for path, methods in admin.calls.items() for method in methods if method != "HEAD"]
    assert sorted(column(TELEMETRY, "## Admin server", 1)) == sorted(calls)


def test_the_otel_variables_are_documented() -> None:
    """Each `OTEL_*` variable that the sidecar itself reads by its whole name is documented."""
    texts = {template(node) for module in ("telemetry/exporters", "telemetry/spans") for node in ast.walk(tree(module))}
    variables = {text for text in texts if re.fullmatch(r"OTEL_[A-Z_]+", text) and not text.endswith("_")}
    assert variables <= set(column(TELEMETRY, "## Variables", 1))


def test_the_fail_open_reasons_are_documented() -> None:
    """The table of reasons is the enumeration."""
    assert sorted(column(FAILURE_MODES, "## Fail-open reasons", 1)) == sorted(reason.value for reason in FailOpen)


def test_the_errors_that_clients_see_are_documented() -> None:
    """Each error reply of the sidecar's own is in the first table, and no other."""
    documented = [text for text in column(FAILURE_MODES, "## What clients see", 1) if text.startswith("ERR ")]
    assert client_errors()
    _same(documented, client_errors())


def test_the_warnings_are_documented() -> None:
    """Each warning that is logged is in the table, and no other."""
    assert warnings()
    _same(column(FAILURE_MODES, "## Log lines", 1), warnings())


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link of a page leads to a file and, where it names one, to a heading in it."""
    path = ROOT / page
    for link in _LINK.findall(re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target.read_text()), link


def _anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_the_tests_that_are_named_exist(page: str) -> None:
    """A test that a page names as its witness is there, under that name."""
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / page).read_text()):
        source = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        assert re.search(rf"def {name}\(", source), f"{path}::{name}"

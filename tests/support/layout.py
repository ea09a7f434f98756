"""Checks that keep the package as it is laid out. Each takes a folder and returns complaints: what, where, what to do.

They read source text and never import it, so that they work on a few bad lines in a temporary folder too.
"""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

MOST_PACKAGES, MOST_MODULES = 16, 4
"""At the top of the package; `__init__` and `__main__` are modules too."""
MOST_ROWS = 10
"""Of the contract by which imports go one way."""
FILE_LINES, CLASS_LINES, FUNCTION_LINES = 400, 250, 40

_SOURCES = {".py", ".pyi", ".c", ".lua", ".html", ".yaml"}
_KEY = re.compile(r"}:|asynq:{")
_READ = re.compile(r"(^open|os\.open|\.read_text|\.read_bytes|(file|path)\)?\.open)$", re.IGNORECASE)
_SECRET = re.compile(r"password|secret|token|credential", re.IGNORECASE)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def crowded(package: Path) -> list[str]:
    """Find more packages or modules at the top than one takes in at a glance."""
    modules = sorted(path.name for path in package.glob("*.py"))
    packages = sorted({path.parent.name for path in package.glob("*/*.py")})
    told = []
    if len(modules) > MOST_MODULES:
        told.append(f"{len(modules)} modules at the top, at most {MOST_MODULES}; move one into a package: {modules}")
    if len(packages) > MOST_PACKAGES:
        told.append(f"{len(packages)} packages, at most {MOST_PACKAGES}; put one into another: {packages}")
    return told


def undescribed(package: Path) -> list[str]:
    """Find packages whose `__init__.py` is anything but a docstring that no other package has."""
    told = []
    seen: dict[str, str] = {}
    for folder in sorted({path.parent for path in package.rglob("*.py")}):
        init = folder / "__init__.py"
        name = _where(package, init)
        module = ast.parse(init.read_text()) if init.exists() else ast.Module([], [])
        docstring = ast.get_docstring(module) or ""
        if not docstring or docstring.strip(".") == folder.name:
            told.append(f"{name}: say what the package owns and what it may import")
        elif docstring in seen:
            told.append(f"{name}: it has the docstring of {seen[docstring]}; say what this one owns")
        if len(module.body) > 1:
            told.append(f"{name}: only a docstring belongs here; move the code into a module")
        seen[docstring] = name
    return told


def long(package: Path) -> list[str]:
    """Find files, classes and functions that are too long."""
    told = []
    for path in sorted(package.rglob("*")):
        if path.suffix in _SOURCES:
            lines = len(path.read_text().splitlines())
            if lines > FILE_LINES:
                told.append(f"{_where(package, path)}: {lines} lines, at most {FILE_LINES}; move one of its jobs out")
    for path, node in _nodes(package):
        if not isinstance(node, ast.ClassDef | _Function):
            continue
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        kind, most = ("class", CLASS_LINES) if isinstance(node, ast.ClassDef) else ("function", FUNCTION_LINES)
        if lines > most:
            told.append(
                f"{_where(package, path, node)}: {kind} {node.name} has {lines} lines, at most {most}; split it"
            )
    return told


def untested(package: Path, tests: Path) -> list[str]:
    """Find modules without the test file that mirrors their path, and test files without their module.

    A compiled part such as `_resp.c` is a module as well, whose test file is `test_resp.py`.
    """
    modules = {path for path in package.rglob("*") if path.suffix in (".py", ".c") and not path.name.startswith("__")}
    expected = {path.relative_to(package).with_name(f"test_{path.stem.removeprefix('_')}.py"): path for path in modules}
    there = {path.relative_to(tests) for path in tests.rglob("*.py")}
    return [
        *(
            f"{_where(package, path)}: write {tests.name}/{test}, which tests what the module promises"
            for test, path in sorted(expected.items())
            if test not in there
        ),
        *(
            f"{tests.name}/{test}: there is no such module; name it after the one it tests, or move it"
            for test in sorted(there - expected.keys())
        ),
    ]


def misplaced_folders(package: Path, tests: Path) -> list[str]:
    """Find folders and files of tests that are in no folder named after a package."""
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    return [
        f"{tests.name}/{folder}: no package is called so; move it to the tests of the package it is about"
        for folder in sorted({path.relative_to(tests).parts[0] for path in tests.rglob("*.py")})
        if folder not in packages
    ]


def lua_loaders(package: Path) -> list[str]:
    """Find modules that name Lua files or their folder, other than the loader."""
    return [
        f"{_where(package, path, node)}: {node.value!r} names a Lua file; ask lua.loader for the text"
        for path, node in _constants(package)
        if path != package / "lua" / "loader.py"
        and isinstance(node.value, str)
        and (node.value == "lua" or node.value.endswith(".lua") or "lua/" in node.value)
    ]


def secret_readers(package: Path) -> list[str]:
    """Find modules that read a secret from a file, other than the one that is there for it.

    A read is one of a secret where its statement, or the name or a parameter of its function, speaks of one.
    """
    told = []
    for path, function in _nodes(package):
        if path == package / "net" / "secret_file.py" or not isinstance(function, _Function):
            continue
        head = f"{function.name} {ast.unparse(function.args)}"
        told += [
            f"{_where(package, path, node)}: {function.name} reads a secret; let net.secret_file read it"
            for statement in _statements(function)
            for node in ast.walk(statement)
            if isinstance(node, ast.Call) and _READ.search(ast.unparse(node.func))
            if _SECRET.search(head) or _SECRET.search(ast.unparse(statement))
        ]
    return told


def key_builders(package: Path) -> list[str]:
    """Find modules that put the name of a queue's key together, other than `asynq/keys.py`."""
    return [
        f"{_where(package, path, node)}: {node.value!r} is part of a key of Asynq's; let asynq.keys build it"
        for path, node in _constants(package)
        if path != package / "asynq" / "keys.py" and _KEY.search(repr(node.value))
    ]


def namesakes(package: Path) -> list[str]:
    """Find public classes that have the name of another one."""
    places = defaultdict(list)
    for path, node in _nodes(package):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            places[node.name].append(_where(package, path, node))
    return [
        f"{', '.join(where)}: each has a class {name}; give them names that say how they differ"
        for name, where in sorted(places.items())
        if len(where) > 1
    ]


def assigned_from_outside(package: Path, allowed: Mapping[tuple[str, str], str]) -> list[str]:
    """Find attributes that are set on an object by somebody else, and allowances that nothing needs any more.

    Args:
        package: the package.
        allowed: reasons for exceptions, by module and target: `("net/tls.py", "context.verify_mode")`, or
            `("net/tls.py", "context.*")` for every attribute of what is called so.
    """
    needed, told = set(), []
    for path, node in _nodes(package):
        for target in _targets(node):
            owner, _, attribute = target.rpartition(".")
            if owner in ("self", "cls"):
                continue
            where = path.relative_to(package).as_posix()
            rows = {(where, target), (where, f"{owner}.*")} & allowed.keys()
            needed |= rows
            if not rows:
                told.append(
                    f"{_where(package, path, node)}: {target} is set from outside; pass {attribute} to the "
                    f"constructor, or give {owner} a method that says what happens"
                )
    told += [
        f"{where}: {target} is not set any more; remove the exception" for where, target in allowed.keys() - needed
    ]
    return told


def type_checking(package: Path) -> list[str]:
    """Find imports that only a type checker sees."""
    return [
        f"{_where(package, path, node)}: TYPE_CHECKING hides an import that runs up; turn it round"
        for path, node in _nodes(package)
        if (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING")
        or (isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING")
    ]


def poor_contracts(project: Path) -> list[str]:
    """Find an import contract of too many rows, or lists of files where packages are to be named.

    Args:
        project: the folder of `pyproject.toml` and the `Makefile`.
    """
    contracts = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [contract for contract in contracts if contract["type"] == "layers"]
    told = []
    if len(layers) != 1:
        told.append(f"pyproject.toml: {len(layers)} contracts of layers; one says which way imports go")
    told += [
        f"pyproject.toml: {len(contract['layers'])} rows of layers, at most {MOST_ROWS}; merge rows, or packages"
        for contract in layers
        if len(contract["layers"]) > MOST_ROWS
    ]
    told += [
        f"pyproject.toml: {contract['name']!r} names {module}; name its package"
        for contract in contracts
        if contract["type"] == "forbidden"
        for module in contract["source_modules"]
        if module.count(".") > 1
    ]
    core = re.search(r"^CORE := (.+)$", (project / "Makefile").read_text(), re.MULTILINE)
    told += [
        f"Makefile: CORE names {pattern}; name its package"
        for pattern in (core[1].split(",") if core else [])
        if not re.fullmatch(r"\*/\w+/(\w+/\*|\w+\.py)", pattern.strip())
    ]
    return told


# --- reading the source -------------------------------------------------------------------------------------


def _modules(package: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(package.rglob("*.py")):
        yield path, _parsed(path.read_text())


@cache
def _parsed(text: str) -> ast.Module:
    """Return a module as a syntax tree, which is read over and over."""
    return ast.parse(text)


def _nodes(package: Path) -> Iterator[tuple[Path, ast.AST]]:
    for path, module in _modules(package):
        for node in ast.walk(module):
            yield path, node


def _where(package: Path, path: Path, node: ast.AST | None = None) -> str:
    line = getattr(node, "lineno", None)
    return path.relative_to(package).as_posix() + (f":{line}" if line else "")


def _constants(package: Path) -> Iterator[tuple[Path, ast.Constant]]:
    """Yield every constant but those that stand alone as a statement, as docstrings do."""
    for path, module in _modules(package):
        nodes = list(ast.walk(module))
        alone = {node.value for node in nodes if isinstance(node, ast.Expr)}
        yield from ((path, node) for node in nodes if isinstance(node, ast.Constant) and node not in alone)


def _targets(node: ast.AST) -> Iterator[str]:
    """Yield the attributes that a statement sets or deletes, or that a call of `setattr` sets, as they are written."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
        yield ast.unparse(node)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__"):
        owner, name = (ast.unparse(argument) for argument in node.args[:2])
        yield ".".join((owner, name.strip("'")))


def _statements(function: _Function) -> Iterator[ast.AST]:
    """Yield the statements of a function that hold no others, and the expressions in the heads of those that do."""
    for node in ast.walk(function):
        if isinstance(node, ast.stmt) and hasattr(node, "body"):
            yield from (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr | ast.withitem))
        elif isinstance(node, ast.stmt):
            yield node

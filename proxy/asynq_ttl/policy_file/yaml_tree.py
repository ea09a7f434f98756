"""A YAML document as plain data that knows its lines, and the faults found in it. The only importer of yaml.

Knows nothing of policies.

Invariants:

* Scalars are null, true, false, numbers and text, nothing more: `off`, `yes` and `1:30` stay text.
* Merge keys and anchors work; a duplicate key is a fault.
* What could grow without bound is limited: how deep values are nested, and how many there are with all aliases
  written out.
"""

import re
from collections.abc import Callable, Iterator

from yaml import MappingNode, MarkedYAMLError, Node, ScalarNode, SequenceNode
from yaml.composer import Composer, ComposerError
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner, ScannerError

from asynq_ttl.policy_file.faults import Fault, failure, shown

# Security limits: a policy file is small, and it is read again while the sidecar serves.
_MAX_DEPTH = 32
_MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"

Place = tuple[int | str, ...]
"""Where a value stands in a document: keys and list positions from the top."""


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML up to its composed nodes, with the scalars of this file format only."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = self._nodes = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Compose one node; refuse more or deeper ones than a policy needs, since PyYAML recurses."""
        self._depth += 1
        self._nodes += 1
        if self._depth > _MAX_DEPTH or self._nodes > _MAX_VALUES:
            problem = "this is nested too deeply" if self._depth > _MAX_DEPTH else "these are too many values"
            event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise ComposerError(None, None, problem, event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_SCALARS: dict[str, Callable[[str], object]] = {
    "str": str,
    "null": lambda _: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": float,
}

_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "int", re.compile(r"[-+]?[0-9]{1,18}\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", re.compile(r"[-+]?[0-9]+\.[0-9]*\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(_MERGE, re.compile(r"<<\Z"), ["<"])


class Tree:
    """Plain data made of YAML nodes, the line of every path in it, and the faults found so far.

    Args:
        source: the document's name, for messages.
        root: its one node; None for a document without any.

    Raises:
        PolicyError: there are too many values, or they are nested too deeply.
    """

    def __init__(self, source: str, root: Node | None) -> None:
        self.source = source
        self.lines: dict[Place, int] = {(): 1 if root is None else _line(root)}
        self.faults: set[Fault] = set()
        self._values = 0
        self.data: object = None if root is None else self._value(root, ())

    def blame(self, where: Place | int, message: str, hint: str = "") -> None:
        """Add a fault, at a line or at a path (or at the nearest path above it that has a line)."""
        if not isinstance(where, int):
            while where not in self.lines:
                where = where[:-1]
            where = self.lines[where]
        self.faults.add(Fault(self.source, where, message, hint))

    def _value(self, node: Node, path: Place) -> object:
        """Return the data of a node and note the lines of everything in it."""
        self._count(node, len(path))
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            items: list[object] = []
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = _line(item)
                items.append(self._value(item, (*path, index)))
            return items
        return self._scalar(node)

    def _count(self, node: Node, depth: int) -> None:
        """Count a value. Refuse what aliases can make of a small file: values without end, or one inside itself."""
        self._values += 1
        if self._values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise failure(self.source, _line(node), "aliases repeat too much", "write the values out")

    def _mapping(self, node: MappingNode, path: Place) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, line, item in self._pairs(node, 0):
            if key not in result:
                self.lines[(*path, key)] = line
                result[key] = self._value(item, (*path, key))
        return result

    def _pairs(self, node: MappingNode, depth: int) -> Iterator[tuple[str, int, Node]]:
        """Yield the keys of a mapping with their lines and values: its own, then what it merges."""
        merged: list[Node] = []
        first_lines: dict[str, int] = {}
        for key_node, item in node.value:
            self._count(key_node, depth)
            if key_node.tag == _MERGE:
                merged += item.value if isinstance(item, SequenceNode) else [item]
                continue
            key, line = self._scalar(key_node), _line(key_node)
            if not isinstance(key, str):
                self.blame(line, f"the key {shown(key)} is not text", "the keys of a policy file are words")
            elif key in first_lines:
                self.blame(line, f"the key {shown(key)} is here twice", f"the first is on line {first_lines[key]}")
            else:
                first_lines[key] = line
                yield key, line, item
        for other in merged:
            if isinstance(other, MappingNode):
                yield from self._pairs(other, depth + 1)
            else:
                self.blame(_line(other), "`<<` merges what is no mapping", "write `<<: *anchor` of a mapping")

    def _scalar(self, node: Node) -> object:
        """Return the value of a scalar; of any other node (a key can be a list) the nodes in it."""
        name = node.tag.removeprefix(_TAG)
        if not isinstance(node, ScalarNode):
            return node.value
        try:
            return _SCALARS[name](node.value)
        except (KeyError, ValueError):
            self.blame(
                _line(node),
                f"the YAML tag {shown(node.tag)} does not fit here",
                "remove it, or quote the text",
            )
            return node.value


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def read(text: str, source: str) -> Tree:
    """Read a YAML document.

    Args:
        text: the document.
        source: its name, for messages.

    Raises:
        PolicyError: it is not YAML; nothing more can be said about it then.
    """
    try:
        loader = _Loader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise failure(source, line, "this line holds a control character", "remove it") from error
    try:
        node = loader.get_single_node()
    except MarkedYAMLError as error:
        # The scanner may give up lines after the fault; `context_mark` is where what it was reading started.
        mark = (isinstance(error, ScannerError) and error.context_mark) or error.problem_mark
        message, hint = _explained(error.problem or "this is not YAML")
        raise failure(source, mark.line + 1 if mark else 0, message, hint) from error
    except (ValueError, OverflowError) as error:
        # PyYAML leaves an escape such as "\UFFFFFFFF" to chr(), which complains.
        raise failure(source, loader.line + 1, "this escape is no character", "remove it") from error
    return Tree(source, node)


def _explained(problem: str) -> tuple[str, str]:
    """Return what PyYAML found wrong, and a hint about the mistake that most likely led to it."""
    if "'\\t'" in problem:
        return "a tab where YAML allows only spaces", "indent with spaces"
    if "alias" in problem or "alphabetic or numeric" in problem:
        return problem, "a glob that starts with * needs quotes"
    if "another document" in problem or "document start" in problem:
        return problem.removeprefix("but "), "a policy file is one document without directives"
    return problem, "look at indentation and brackets; text that starts with *, [, {, !, & or % needs quotes"

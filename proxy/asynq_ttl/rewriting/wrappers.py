"""The wrapper of a script: one Lua text of prologue, original and epilogue. Pure.

The original stands in the wrapper as a function. It runs unchanged, with its own KEYS and ARGV
and the line numbers it had, and its reply is the wrapper's reply. The parts around it are in `lua/wrappers` and
`lua/shared`; in them `KEYS[task_key]` and the like stand for the positions in the script's `Shape`.

Invariants:

* If the original raises, the wrapper raises, and the epilogue never runs.
* What a wrapper adds uses `redis.pcall`, so an ACL that denies it cannot fail the task.
* The policy travels as the last argument, so a wrapper's SHA does not change when the policy does.
"""

import re

from asynq_ttl.asynq.script_shape import Kind, Shape
from asynq_ttl.lua.loader import load_on_one_line


def wrap(text: bytes, shape: Shape) -> bytes:
    """Return the wrapper of a script, or nothing where its kind has none.

    A shebang (`#!lua ...`, Redis 7) stays the first line.
    """
    shebang = text[: text.find(b"\n") + 1] if text.startswith(b"#!") else b""
    if shape.kind not in _PARTS or (text.startswith(b"#!") and not shebang):
        return b""
    prologues, epilogues = _COMPLETE_BY_REFUSAL if shape.refusal else _PARTS[shape.kind]
    before = b"".join(_part(name, shape) + b" " for name in prologues)
    after = b"".join(_part(name, shape) + b" " for name in epilogues)
    # The prologue stays on the original's first line, so that line numbers in error messages stay the same.
    original = b"local asynq_ttl_original = function() " + text[len(shebang) :] + b"\nend "
    original += b"local asynq_ttl_reply = asynq_ttl_original() "
    return shebang + before + original + after + b"return asynq_ttl_reply"


_LATER: dict[str, tuple[str, ...]] = {
    "remove": ("shared/states.prologue", "wrappers/remove.prologue"),
    "trim": (
        "wrappers/trim.prologue",
        "shared/hold.prologue",
        "wrappers/trim_one.prologue",
        "wrappers/trim_more.prologue",
    ),
    "lives": ("shared/pick.prologue", "wrappers/lives.prologue"),
    "holds": ("shared/hold.prologue", "wrappers/holds.prologue"),
    "keep_held": ("shared/hold.prologue", "shared/hold_on.prologue", "wrappers/hold_on.prologue"),
}
"""Functions of several parts, which come into being only when they are called: most calls need none of them."""

_SETTLING = ("wrappers/own.prologue", "remove", "trim", "lives", "wrappers/settle.prologue")

_PARTS: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Kind.COMPLETE: (
        ("wrappers/own.prologue", "wrappers/ghost.prologue"),
        ("wrappers/ended.epilogue", "wrappers/complete.epilogue"),
    ),
    Kind.DONE: (
        ("wrappers/clock.prologue", "shared/pick.prologue", "wrappers/done.prologue"),
        ("wrappers/done.epilogue",),
    ),
    Kind.ENQUEUE: (
        (
            "shared/pick.prologue",
            "shared/hold.prologue",
            "shared/replaceable.prologue",
            "wrappers/enqueue.prologue",
        ),
        ("wrappers/enqueue.epilogue",),
    ),
    Kind.ARCHIVE: (
        ("wrappers/own.prologue", "remove", "trim"),
        ("wrappers/ended.epilogue", "wrappers/archive.epilogue"),
    ),
    Kind.ARCHIVE_ONE: (
        (*_SETTLING, "holds", "keep_held", "wrappers/archive_one.prologue", "wrappers/no_trims.prologue"),
        ("wrappers/archive_one.epilogue",),
    ),
    Kind.ARCHIVE_ALL: (
        (*_SETTLING, "wrappers/archive_all.prologue", "wrappers/no_trims.prologue"),
        ("wrappers/archive_all.epilogue",),
    ),
    Kind.RUN_ONE: (("wrappers/restore.prologue",), ("wrappers/run_one.epilogue",)),
    Kind.RUN_ALL: (
        (
            "shared/states.prologue",
            "shared/hold.prologue",
            "wrappers/restore.prologue",
            "wrappers/look_kept.prologue",
            "wrappers/run_all.prologue",
            "wrappers/run_all_held.prologue",
        ),
        ("wrappers/run_all.epilogue",),
    ),
    Kind.DELETE_ALL: (("shared/states.prologue", "wrappers/look.prologue", "wrappers/run_all.prologue"), ()),
    Kind.DEQUEUE: ((), ("wrappers/dequeue.epilogue",)),
    Kind.DEQUEUE_TIMED: (("wrappers/dequeue_timed.prologue",), ("wrappers/dequeue.epilogue",)),
    Kind.BY_EFFECT: (
        (
            "wrappers/clock.prologue",
            "shared/states.prologue",
            "shared/pick.prologue",
            "shared/hold.prologue",
            "shared/hold_on.prologue",
            "wrappers/restore.prologue",
            "wrappers/effect.prologue",
        ),
        ("wrappers/effect.epilogue",),
    ),
    Kind.JANITOR: (("shared/states.prologue", "wrappers/janitor.prologue"), ()),
    Kind.RECORD: (("wrappers/record.prologue",), ("wrappers/record.epilogue",)),
}

_COMPLETE_BY_REFUSAL = (
    ("wrappers/own.prologue",),
    ("wrappers/ghost.epilogue", "wrappers/ended.epilogue", "wrappers/complete.epilogue"),
)
"""Where the script says itself that an ID is in the index already, no ghost is looked for before."""

WRAPPED_KINDS = frozenset(_PARTS)
"""The kinds of scripts that have a wrapper."""

_LUA = {
    name: load_on_one_line(name)
    for parts in (*_PARTS.values(), _COMPLETE_BY_REFUSAL, tuple(_LATER.values()))
    for names in parts
    for name in names
    if name not in _LATER
}
_POSITION = re.compile(r"\[(\w+_(?:key|arg))\]")


def _part(name: str, shape: Shape) -> bytes:
    """Return a Lua part with the positions of a shape put in; or a function of several."""
    if name in _LATER:
        body = b" ".join(_part(part, shape) for part in _LATER[name])
        return b"local function asynq_ttl_%b(...) %b end" % (name.encode(), body)
    text = _POSITION.sub(lambda match: f"[{getattr(shape, match[1])}]", _LUA[name])
    text = text.replace("source_command", f"'{shape.source_command}'")
    text = text.replace("lock_taken", f"KEYS[{shape.lock_key}]" if shape.lock_key else "nil")
    last = f"tonumber(ARGV[{shape.limit_arg}]) + {shape.limit_offset}" if shape.limit_arg else f"{shape.limit_offset}"
    text = text.replace("source_last", last)
    text = text.replace("says_ended", "true" if shape.says_ended else "false").replace("refusal_text", shape.refusal)
    text = text.replace("end_state", "completed" if shape.kind is Kind.COMPLETE else "archived")
    return text.encode()

"""Every script of every Asynq release that can be had, against a table of what each one is."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.script_shape import OTHER, Kind, Shape, classify
from asynq_ttl.asynq.unclear_text import may_end_tasks
from asynq_ttl.rewriting.wrappers import wrap
from support.asynq_source import VERSIONS, scripts

COMPLETE = Shape(Kind.COMPLETE, task_key=4, index_key=3, id_arg=1, time_arg=3, msg_arg=4)
# It says INTERNAL of an ID that is in the index already, and has taken it off these two by then.
COMPLETE_OR_REFUSE = replace(COMPLETE, active_key=1, lease_key=2)
ARCHIVE = Shape(Kind.ARCHIVE, task_key=1, index_key=4, id_arg=1, msg_arg=2, time_arg=3, cutoff_arg=4, cap_arg=5)
ARCHIVE_ONE = Shape(Kind.ARCHIVE_ONE, task_key=1, index_key=2, id_arg=1, time_arg=2, cutoff_arg=3, cap_arg=4)
ARCHIVE_ALL = Shape(
    Kind.ARCHIVE_ALL,
    source_key=1,
    index_key=2,
    time_arg=1,
    cutoff_arg=2,
    cap_arg=3,
    prefix_arg=4,
    source_command="ZRANGE",
)
ARCHIVE_ALL_PENDING = replace(ARCHIVE_ALL, source_command="LRANGE")
RUN_ONE = Shape(Kind.RUN_ONE, task_key=1)
RUN_ALL = Shape(Kind.RUN_ALL, source_key=1, pending_key=2, prefix_arg=1, source_command="ZRANGE")
DEQUEUE = Shape(Kind.DEQUEUE, source_key=1, active_key=3, lease_key=4, prefix_arg=2)
DEQUEUE_TIMED = Shape(Kind.DEQUEUE_TIMED, source_key=1, active_key=3, lease_key=4, prefix_arg=2)
DELETE_ALL = Shape(Kind.DELETE_ALL, source_key=1, prefix_arg=1, source_command="ZRANGE")
DONE = Shape(Kind.DONE, task_key=3, active_key=1, lease_key=2, id_arg=1)
ENQUEUE = Shape(Kind.ENQUEUE, task_key=1, msg_arg=1)
ENQUEUE_UNIQUE = Shape(Kind.ENQUEUE, lock_key=1, task_key=2, msg_arg=3)
SCHEDULE_UNIQUE = replace(ENQUEUE_UNIQUE, msg_arg=4)
ADD_UNIQUE = replace(ENQUEUE, lock_key=4)
RECORD = Shape(Kind.RECORD, history_key=1)
JANITOR = Shape(Kind.JANITOR, index_key=1, time_arg=1, prefix_arg=2, batch_arg=3)


@dataclass(frozen=True)
class Row:
    """What a script is from one release to another (both inclusive); `sha` is how its SHA-1 starts."""

    name: str
    first: str
    last: str
    shape: Shape = OTHER
    sha: str = ""


# A script whose text changed has several rows.
WRAPPED = (
    Row("markAsCompleteCmd", "v0.19.0", "v0.19.0", COMPLETE, "f74cd54b"),
    Row("markAsCompleteCmd", "v0.20.0", "v0.23.0", COMPLETE, "4b6a7fee"),
    Row("markAsCompleteCmd", "v0.24.1", "v0.26.0", COMPLETE_OR_REFUSE, "117dca95"),
    Row("markAsCompleteUniqueCmd", "v0.19.0", "v0.19.0", COMPLETE, "bb86a9fe"),
    Row("markAsCompleteUniqueCmd", "v0.20.0", "v0.23.0", COMPLETE, "adc25571"),
    Row("markAsCompleteUniqueCmd", "v0.24.1", "v0.26.0", COMPLETE_OR_REFUSE, "ce6833cc"),
    Row("archiveCmd", "v0.18.6", "v0.19.0", ARCHIVE, "70978112"),
    Row("archiveCmd", "v0.20.0", "v0.24.1", ARCHIVE, "04e5ed2a"),
    Row("archiveCmd", "v0.25.1", "v0.26.0", ARCHIVE, "9c3b1eb9"),
    Row("archiveTaskCmd", "v0.18.6", "v0.22.1", ARCHIVE_ONE, "0974bc4e"),
    Row("archiveTaskCmd", "v0.23.0", "v0.23.0", ARCHIVE_ONE, "7284b70a"),
    Row("archiveTaskCmd", "v0.24.1", "v0.26.0", ARCHIVE_ONE, "c3183bd2"),
    Row("archiveAllCmd", "v0.18.6", "v0.26.0", ARCHIVE_ALL, "7f02b3d3"),
    Row("archiveAllPendingCmd", "v0.18.6", "v0.26.0", ARCHIVE_ALL_PENDING, "c78daecb"),
    Row("archiveAllAggregatingCmd", "v0.23.0", "v0.26.0", ARCHIVE_ALL, "0f24d56b"),
    Row("runTaskCmd", "v0.18.6", "v0.22.1", RUN_ONE, "6cc27520"),
    Row("runTaskCmd", "v0.23.0", "v0.26.0", RUN_ONE, "2fb64681"),
    Row("runAllCmd", "v0.18.6", "v0.26.0", RUN_ALL, "1d0a1f59"),
    Row("runAllAggregatingCmd", "v0.23.0", "v0.26.0", RUN_ALL, "95d6ff8e"),
    Row("dequeueCmd", "v0.18.6", "v0.19.0", DEQUEUE_TIMED, "8bb6156b"),
    Row("dequeueCmd", "v0.20.0", "v0.20.0", DEQUEUE_TIMED, "740642ef"),
    Row("dequeueCmd", "v0.22.1", "v0.26.0", DEQUEUE, "a8153319"),
    Row("doneCmd", "v0.18.6", "v0.19.0", DONE, "95d8be1c"),
    Row("doneCmd", "v0.20.0", "v0.26.0", DONE, "1241eaa1"),
    Row("doneUniqueCmd", "v0.18.6", "v0.19.0", DONE, "89ec8aa8"),
    Row("doneUniqueCmd", "v0.20.0", "v0.26.0", DONE, "a2631c71"),
    Row("enqueueCmd", "v0.19.0", "v0.19.0", ENQUEUE, "27561f6f"),
    Row("enqueueCmd", "v0.20.0", "v0.20.0", ENQUEUE, "6b2833ba"),
    Row("enqueueCmd", "v0.22.1", "v0.26.0", ENQUEUE, "98d28b42"),
    Row("enqueueUniqueCmd", "v0.19.0", "v0.19.0", ENQUEUE_UNIQUE, "0f6e0099"),
    Row("enqueueUniqueCmd", "v0.20.0", "v0.20.0", ENQUEUE_UNIQUE, "2c343a9f"),
    Row("enqueueUniqueCmd", "v0.22.1", "v0.23.0", ENQUEUE_UNIQUE, "5c5f3ddb"),
    Row("enqueueUniqueCmd", "v0.24.1", "v0.26.0", ENQUEUE_UNIQUE, "297b3f9a"),
    Row("scheduleCmd", "v0.19.0", "v0.20.0", ENQUEUE, "0658cfcf"),
    Row("scheduleCmd", "v0.22.1", "v0.26.0", ENQUEUE, "8ce6b38a"),
    Row("scheduleUniqueCmd", "v0.19.0", "v0.20.0", SCHEDULE_UNIQUE, "8640afea"),
    Row("scheduleUniqueCmd", "v0.22.1", "v0.26.0", SCHEDULE_UNIQUE, "e9b8aa85"),
    Row("addToGroupCmd", "v0.23.0", "v0.26.0", ENQUEUE, "074af2c5"),
    Row("addToGroupUniqueCmd", "v0.23.0", "v0.26.0", ADD_UNIQUE, "deeb77b9"),
    Row("deleteExpiredCompletedTasksCmd", "v0.19.0", "v0.26.0", JANITOR, "49c4326d"),
    Row("recordSchedulerEnqueueEventCmd", "v0.18.6", "v0.26.0", RECORD),
    Row("deleteAllCmd", "v0.18.6", "v0.26.0", DELETE_ALL, "87a4d435"),
    Row("deleteAllAggregatingCmd", "v0.23.0", "v0.26.0", DELETE_ALL, "e90e6353"),
    Row("deleteAggregationSetCmd", "v0.23.0", "v0.26.0", DELETE_ALL, "f7833555"),
)
UNTOUCHED = (
    Row("enqueueCmd", "v0.18.6", "v0.18.6"),
    Row("enqueueUniqueCmd", "v0.18.6", "v0.18.6"),
    Row("requeueCmd", "v0.18.6", "v0.26.0"),
    Row("scheduleCmd", "v0.18.6", "v0.18.6"),
    Row("scheduleUniqueCmd", "v0.18.6", "v0.18.6"),
    Row("retryCmd", "v0.18.6", "v0.26.0"),
    Row("forwardCmd", "v0.18.6", "v0.26.0"),
    Row("listDeadlineExceededCmd", "v0.18.6", "v0.20.0"),
    Row("listLeaseExpiredCmd", "v0.22.1", "v0.26.0"),
    Row("writeServerStateCmd", "v0.18.6", "v0.26.0"),
    Row("clearServerStateCmd", "v0.18.6", "v0.26.0"),
    Row("writeSchedulerEntriesCmd", "v0.18.6", "v0.26.0"),
    Row("aggregationCheckCmd", "v0.23.0", "v0.26.0"),
    Row("readAggregationSetCmd", "v0.23.0", "v0.26.0"),
    Row("reclaimStateAggregationSetsCmd", "v0.23.0", "v0.26.0"),
    Row("currentStatsCmd", "v0.18.6", "v0.26.0"),
    Row("memoryUsageCmd", "v0.18.6", "v0.26.0"),
    Row("historicalStatsCmd", "v0.18.6", "v0.26.0"),
    Row("groupStatsCmd", "v0.23.0", "v0.26.0"),
    Row("getTaskInfoCmd", "v0.18.6", "v0.26.0"),
    Row("listMessagesCmd", "v0.18.6", "v0.26.0"),
    Row("listZSetEntriesCmd", "v0.18.6", "v0.26.0"),
    Row("updateTaskPayloadCmd", "v0.26.0", "v0.26.0"),
    Row("deleteTaskCmd", "v0.18.6", "v0.26.0"),
    Row("deleteAllPendingCmd", "v0.18.6", "v0.26.0"),
    Row("removeQueueForceCmd", "v0.18.6", "v0.26.0"),
    Row("removeQueueCmd", "v0.18.6", "v0.26.0"),
    Row("listServerKeysCmd", "v0.18.6", "v0.26.0"),
    Row("listWorkersCmd", "v0.18.6", "v0.26.0"),
    Row("listSchedulerKeysCmd", "v0.18.6", "v0.26.0"),
)


def rows_of(version: str) -> dict[str, Row]:
    """Return the rows of the tables that hold for a release, by script."""
    place = VERSIONS.index(version)
    holding = [row for row in WRAPPED + UNTOUCHED if VERSIONS.index(row.first) <= place <= VERSIONS.index(row.last)]
    assert len({row.name for row in holding}) == len(holding), "rows overlap"
    return {row.name: row for row in holding}


def known_texts() -> dict[str, tuple[bytes, Shape]]:
    """Return every different text of every release with its expected shape, by release and name."""
    texts: dict[bytes, tuple[str, Shape]] = {}
    for version in VERSIONS:
        for name, row in rows_of(version).items():
            texts.setdefault(scripts(version)[name], (f"{version} {name}", row.shape))
    return {label: (text, shape) for text, (label, shape) in texts.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_script_is_in_the_table(version: str) -> None:
    """A release has exactly the scripts that the table names: a new one has to be looked at by a person."""
    assert scripts(version).keys() == rows_of(version).keys()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_script_is_what_the_table_says(version: str) -> None:
    """Kind and positions are read right from each real text, and nothing else of Asynq is taken for one."""
    expected = {name: row.shape for name, row in rows_of(version).items()}
    assert {name: classify(text) for name, text in scripts(version).items()} == expected


# What these write into a hash comes from ARGV. They are called seldom, and with no terminal index.
UNCLEAR = {"writeServerStateCmd", "updateTaskPayloadCmd"}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_worker_does_all_the_time_takes_the_short_way(version: str) -> None:
    """Of what is not wrapped only those few are looked at for what their KEYS say; any other goes as it came."""
    others = {name for name, row in rows_of(version).items() if row.shape is OTHER}
    unclear = {name for name in others if may_end_tasks(scripts(version)[name])}
    assert unclear == UNCLEAR & others


@pytest.mark.parametrize("row", WRAPPED, ids=lambda row: f"{row.name} {row.sha}")
def test_the_texts_are_those_the_design_rests_on(row: Row) -> None:
    """A wrapped script has the same SHA-1 in every release of its row."""
    for version in VERSIONS[VERSIONS.index(row.first) : VERSIONS.index(row.last) + 1]:
        assert hashlib.sha1(scripts(version)[row.name], usedforsecurity=False).hexdigest().startswith(row.sha)


# --- the same script, written differently ------------------------------------------------------------------


def outside_strings(change: Callable[[str], str]) -> Callable[[str], str]:
    """Return a change of a Lua text that leaves the strings in it alone."""
    return lambda text: "".join(part if part.startswith('"') else change(part) for part in re.split(r'("[^"]*")', text))


def renamed(code: str) -> str:
    """Give every local of Asynq's scripts another name."""
    names = "ids|id|key|keys|state|group|total|old|extra|n|m|msg|data|score|v|res"
    return re.sub(rf"(?<![.\w])({names})\b", r"\1_renamed", code)


def with_local_names(text: str) -> str:
    """Give each of KEYS and ARGV a local name first and use that."""
    used = sorted(set(re.findall(r"(KEYS|ARGV)\[(\d+)\]", text)))
    head = "".join(f"local {table.lower()}_{number} = {table}[{number}]\n" for table, number in used)
    return head + re.sub(r"(KEYS|ARGV)\[(\d+)\]", lambda use: f"{use[1].lower()}_{use[2]}", text)


TRAP = 'redis.call("ZADD", KEYS[9], ARGV[9], ARGV[9]) redis.call("HSET", KEYS[9], "state", "completed")'
VARIANTS: dict[str, Callable[[str], str]] = {
    "renamed locals": outside_strings(renamed),
    "one line": lambda text: " ".join(re.sub(r"--[^\n]*", "", text).split()),
    "spread out": outside_strings(lambda code: re.sub(r"(\.\.|[(),.\[\]])", r" \1 \n\t ", code)),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "comments": lambda text: text.replace("\n", f" -- {TRAP}\n"),
    "block comments": lambda text: re.sub(
        r"(?:--.*)?\n", f" --[[ {TRAP}\n {TRAP} ]] --[==[ ]] {TRAP}\n {TRAP} ]==]\n", text
    ),
    "code in strings": lambda text: f"local help = [=[ ]] {TRAP} ]=] local more = '{TRAP}'\n" + text,
    "single quotes": lambda text: text.replace('"', "'"),
    "long brackets": lambda text: re.sub(r'"([^"]*)"', r"[[\1]]", text),
    "lower-case commands": lambda text: re.sub(r'call\("(\w+)"', lambda call: call[0].lower(), text),
    "pcall": lambda text: text.replace("redis.call", "redis.pcall"),
    "tables by other names": lambda text: (
        "local K = KEYS\nlocal A = ARGV\n" + text.replace("KEYS[", "K[").replace("ARGV[", "A[")
    ),
    "arguments by local names": with_local_names,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_way_of_writing_changes_nothing(variant: str) -> None:
    """Names, white space, comments, quotes, aliases and pcall do not matter to what a script is."""
    change = VARIANTS[variant]
    for label, (text, shape) in known_texts().items():
        assert _sure(classify(change(text.decode()).encode())) == _sure(shape), label


def _sure(shape: Shape) -> Shape:
    """Return a shape without what is only read from a text that is written as Asynq writes it."""
    return replace(shape, active_key=0, lease_key=0) if shape.kind is Kind.COMPLETE else shape


# --- damaged scripts ----------------------------------------------------------------------------------------

NOT_WRAPPED = {Kind.UNKNOWN, Kind.OTHER}
TOKEN = re.compile(r'"[^"]*"|\w+|\S')


def test_a_script_without_one_of_its_lines_is_the_same_or_not_understood() -> None:
    """No line can be missing so that the rest passes for something else or has other positions; a trim or lock can."""
    for label, (text, shape) in known_texts().items():
        lines = text.split(b"\n")
        for missing in range(len(lines)):
            found = classify(b"\n".join(lines[:missing] + lines[missing + 1 :]))
            trimmed = replace(found, cutoff_arg=shape.cutoff_arg, cap_arg=shape.cap_arg, lock_key=shape.lock_key)
            assert _sure(shape) in (_sure(found), _sure(trimmed)) or found.kind in NOT_WRAPPED, (label, lines[missing])


@given(st.data())
def test_a_damaged_script_never_passes_for_another(data: st.DataObject) -> None:
    """Cut off anywhere, with tokens missing, twice or swapped, a script keeps its kind or has none."""
    label = data.draw(st.sampled_from(sorted(known_texts())))
    text, shape = known_texts()[label]
    tokens = TOKEN.findall(text.decode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(tokens) - 2, 0)))
        damage = data.draw(st.sampled_from(["cut", "missing", "twice", "swapped"]))
        if damage == "cut":
            tokens = tokens[:at]
        elif damage == "missing":
            tokens[at : at + 1] = []
        elif damage == "twice":
            tokens[at:at] = tokens[at : at + 1]
        else:
            tokens[at : at + 2] = reversed(tokens[at : at + 2])
    damaged = " ".join(tokens).encode()
    found = classify(damaged)
    assert found.kind in NOT_WRAPPED | {shape.kind}
    wrap(damaged, found)


@given(st.data())
def test_whatever_a_script_is_glued_to_it_is_never_taken_for_the_other(data: st.DataObject) -> None:
    """Two scripts in one text are one of the two at most; if both move tasks between states, neither."""
    texts = known_texts()
    (first, one), (second, other) = (texts[data.draw(st.sampled_from(sorted(texts)))] for _ in range(2))
    kinds = {one.kind, other.kind}
    found = classify(first + b"\n" + second)
    assert found.kind in NOT_WRAPPED | kinds
    if len(kinds - NOT_WRAPPED - {Kind.JANITOR, Kind.DELETE_ALL, Kind.DONE, Kind.RECORD}) == 2:
        assert found.kind in NOT_WRAPPED

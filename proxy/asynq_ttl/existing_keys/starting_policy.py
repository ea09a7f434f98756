"""The policy that `init` writes: it changes nothing, and tells what there is and what could be saved. Pure.

Invariants:

* What the text says is valid, and in mode `shadow` with `keep`: it changes nothing, and with `enforce` no retention.
* It stays valid where somebody makes rules of the comments that begin with `# - `, all of them or some.
* A name of a queue or type stands for itself alone, whatever YAML or a glob would read in its characters.
* The numbers are those of an audit of the same moment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from asynq_ttl.asynq.keys import ambiguous, printable
from asynq_ttl.existing_keys.audit.counts import Group
from asynq_ttl.existing_keys.audit.plot import bytes_text
from asynq_ttl.existing_keys.audit.report import STATES, Report, memory_text, rows
from asynq_ttl.existing_keys.findings import visible
from asynq_ttl.existing_keys.standing import TERMINAL
from asynq_ttl.existing_keys.type_census import Ended, TypeCensus, Volume
from asynq_ttl.policy.glob import GlobError, compile_glob
from asynq_ttl.times import format_duration, moment

# Queues with a rule of their own, and types that are told of in each queue and state: nobody reads more.
_MOST_QUEUES, _MOST_TYPES = (100, 20, 4, 0), 5
# Longer names have no line that could be taken over, and are cut where they are told.
_LONGEST_NAME = 80
# How the name of a suggested rule ends, behind that of the queue's own.
_SUGGESTED = re.compile(r", \w+ \d+\Z")
# A policy file has at most 1 MiB.
_MOST_BYTES = 900_000
# Findings of an audit that say what it has not seen.
_UNSEEN = ("unread", "moving", "wrong-type", "ambiguous")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found in a database.

    Attributes:
        report: the audit.
        census: its ended tasks by type.
    """

    report: Report
    census: TypeCensus


def starting_policy(found: Inventory) -> str:
    """Return the text of a policy to start with."""
    texts = (_text(found, most) for most in _MOST_QUEUES)
    return next(text for text in texts if len(text.encode("utf-8", "replace")) <= _MOST_BYTES)


def _text(found: Inventory, most: int) -> str:
    """Return the text, with rules for so many queues."""
    by_queue: dict[str, list[tuple[str, Group]]] = {}
    for queue, state, group in rows(found.report.tally):
        by_queue.setdefault(queue, []).append((state, group))
    largest = sorted(by_queue, key=lambda queue: -sum(group.bytes for _, group in by_queue[queue]))
    lines = [*_head(found), "rules:"]
    for number, queue in enumerate(sorted(largest[:most]), 1):
        lines += _queue(found.census, queue, by_queue[queue], number)
    rest = largest[most:]
    if rest:
        lines += [f"  # {len(rest):,} smaller queues have no rule of their own: `asynq-ttl audit` shows them."]
    lines += ["  # Whatever no rule above is about.", "  - name: default", *_keep()]
    return "\n".join(lines) + "\n"


def left_out(report: Report) -> list[str]:
    """Return what an audit has not seen, a line for each kind of it."""
    unseen = [finding for finding in report.findings if finding.code in _UNSEEN]
    return [f"not in this: {each.what}: {visible('; '.join(each.examples))}" for each in unseen]


def exactly(name: str) -> str | None:
    """Return the glob that matches this name and no other; None where there is none."""
    glob = "".join(f"[{character}]" if character in "*?[" else character for character in name)
    try:
        return glob if compile_glob(glob).matches(name) else None
    except GlobError:
        return None


def quoted(text: str) -> str:
    """Return a text in double quotes, as YAML reads it."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _head(found: Inventory) -> Iterator[str]:
    report = found.report
    ahead = report.forecast
    days = len(ahead.own) - 1
    yield f"# A start, written by `asynq-ttl init` at {moment(report.now)} for {printable(report.upstream)}."
    yield "#"
    yield "# As it stands it changes nothing: in mode `shadow` a sidecar only tells, and `keep` is Asynq's own time."
    yield "# 1. Take over what suits you of the suggestions. `asynq-ttl check FILE` says whether the file is valid;"
    yield "#    `asynq-ttl audit --policy FILE` and `asynq-ttl backfill --policy FILE` show what it would do."
    yield "# 2. Run the sidecars with it, and look at what they tell."
    yield "# 3. Set `mode: enforce`. `asynq-ttl backfill --policy FILE --apply` is for what is there already."
    yield "#"
    yield (
        f"# {report.tally.keys:,} keys. Ended tasks take {bytes_text(ahead.own[0])} today, and in {days} days "
        f"{bytes_text(ahead.own[-1])} as things are, {bytes_text(ahead.policy[-1])} under this policy."
    )
    yield from (f"# {line}" for line in left_out(report))
    if found.census.more_types:
        yield f"# {found.census.more_types:,} ended tasks are of more types than are told apart here."
    yield "version: 1"
    yield "mode: shadow"
    yield "grace: 60s"
    yield "adopt: new"


def _queue(census: TypeCensus, queue: str, groups: list[tuple[str, Group]], number: int) -> Iterator[str]:
    """Yield the lines of a queue: what there is, what could be saved, and its rule."""
    yield f"  # Queue {_shown(queue)}:"
    for state, group in groups:
        yield f"  #   {_shown(state) if state not in STATES else state or 'no state'}: {_amount(group)}"
    for state, group in groups:
        ended = census.states.get((queue, state))
        if ended is not None:
            yield from _suggestions(census, (queue, _rule_name(queue, number)), state, group, ended)
    glob = None if ambiguous(queue) else exactly(queue)
    if glob is None:
        yield "  #   No rule can name this queue; the last one is for it as for any other."
        return
    yield f"  - name: {quoted(_rule_name(queue, number))}"
    yield f"    match: {{queue: {quoted(glob)}}}"
    yield from _keep()


def _amount(group: Group) -> str:
    parts = [f"{group.tasks:,} tasks", memory_text(group)]
    if sum(group.ages):
        parts.append(f"the oldest {format_duration(group.oldest)}")
    parts += [f"{count:,} {word}" for count, word in ((group.held, "held"), (group.orphans, "orphans")) if count]
    return ", ".join(parts)


def _suggestions(census: TypeCensus, named: tuple[str, str], state: str, group: Group, ended: Ended) -> Iterator[str]:
    """Yield what a shorter time would free at once, for a state and for its largest types.

    Args:
        census: the tasks by type.
        named: the queue, and its rule.
        state: the state.
        group: its tasks in the queue.
        ended: the same by age.
    """
    queue, rule = named
    for age, older in ended.older.items():
        if older.tasks:
            yield f"  #   {state}: {{ttl: {age}}}    # would free {_freed(older, group)}"
    types = [(key[2], of_type) for key, of_type in census.types.items() if key[:2] == (queue, state)]
    types.sort(key=lambda item: (-item[1].all.content - item[1].all.tasks * group.mean_excess, item[0]))
    for number, (name, of_type) in enumerate(types[:_MOST_TYPES], 1):
        told = f"  #   {state} {_shown(name)}: {_freed(of_type.all, group)}"
        if of_type.oldest:
            told += f", the oldest {format_duration(of_type.oldest)}"
        age, older = next(((age, older) for age, older in of_type.older.items() if older.tasks), ("", Volume()))
        glob = exactly(name) if 0 < len(name) <= _LONGEST_NAME else None
        if older.tasks and glob is not None and (queue_glob := exactly(queue)) is not None:
            told += (
                f"\n  # - {{name: {quoted(f'{rule}, {state} {number}')}, match: {{queue: {quoted(queue_glob)}, "
                f"type: {quoted(glob)}}}, {state}: {{ttl: {age}}}}}    # would free {_freed(older, group)}"
            )
        yield told
    if len(types) > _MOST_TYPES:
        yield f"  #   {state}: {len(types) - _MOST_TYPES:,} more types"


def _freed(amount: Volume, group: Group) -> str:
    """Return tasks and their bytes, those of their keys included."""
    return f"{amount.tasks:,} tasks, {bytes_text(amount.content + amount.tasks * group.mean_excess)}"


def _keep() -> list[str]:
    return [f"    {state}: {{ttl: keep}}" for state in TERMINAL]


def _rule_name(queue: str, number: int) -> str:
    """Return a name for the rule of a queue that no other rule has."""
    plain = queue.isprintable() and queue == queue.strip() and 0 < len(queue) <= _LONGEST_NAME
    taken = queue == "default" or queue.startswith("queue ") or _SUGGESTED.search(queue)
    return queue if plain and not taken else f"queue {number}"


def _shown(name: str) -> str:
    """Return a name as a comment tells it: on one line, and not too long."""
    name = printable(name)
    return quoted(name) if len(name) <= _LONGEST_NAME else quoted(name[:_LONGEST_NAME] + "\N{HORIZONTAL ELLIPSIS}")

"""Faults that show only when values are compared: two rules of one name, a rule that can never decide, and so on.

Works on plain data, so a value that is wrong itself hides none of them.
"""

from dataclasses import replace

from asynq_ttl.policy.rules import Keep, Mode, Retention, Rule, State
from asynq_ttl.policy_file.faults import shown
from asynq_ttl.policy_file.mappings import narrowing, read_match
from asynq_ttl.policy_file.places import in_words, rule_name, rules_of
from asynq_ttl.policy_file.yaml_tree import Tree

# Security limit: every rule is compared with every other one, and the file is read again while the sidecar serves.
_MAX_RULES = 1_000


def blame_rules(tree: Tree) -> None:
    """Add the faults that show only when rules, or values of one rule, are compared.

    Args:
        tree: the document; gets the faults.
    """
    data = tree.data if isinstance(tree.data, dict) else {"mode": Mode.OFF.value}
    if data.get("rules") in (None, []) and data.get("mode") != Mode.OFF.value:
        tree.blame(("rules",), "no rule: nothing would be decided", "write a rule, or use mode: off")
    rules = rules_of(tree)
    if len(rules) > _MAX_RULES:
        tree.blame(("rules", _MAX_RULES), f"more than {_MAX_RULES} rules", "use globs, or lists of globs")
        return
    _blame_names(tree, rules)
    for index, rule in rules:
        path = ("rules", index)
        label = in_words(tree, path, ("rules",))
        if not any(state.value in rule for state in State):
            tree.blame(path, f"{label}says nothing", "give it archived, completed or done: {ttl: ...}")
        match, archived = rule.get("match"), rule.get("archived")
        if isinstance(match, dict) and "type" in match and isinstance(archived, dict) and "max" in archived:
            tree.blame(
                (*path, "archived", "max"),
                f"{label}archived.max: a rule that matches on type cannot cap the archive",
                "the archive is one per queue: put max in a rule without type",
            )
    _blame_hidden(tree, rules)


def _blame_names(tree: Tree, rules: list[tuple[int, dict[str, object]]]) -> None:
    first_lines: dict[str, int] = {}
    for index, rule in rules:
        name, path = rule.get("name"), ("rules", index, "name")
        if isinstance(name, str) and name in first_lines:
            taken = f"the name {shown(name)} is taken by the rule on line {first_lines[name]}"
            tree.blame(path, taken, "traces and metrics tell rules apart by their names")
        elif isinstance(name, str):
            first_lines[name] = tree.lines[path]


def _blame_hidden(tree: Tree, rules: list[tuple[int, dict[str, object]]]) -> None:
    """Add a fault for each rule that can never decide, or never about one of its states."""
    earlier: list[tuple[int, Rule]] = []
    for index, data in rules:
        rule = _outline(data)
        if rule is None:
            continue
        said = [state for state in State if rule.says(state) is not None]
        hiders = {state: _hiders(earlier, rule, state) for state in said}
        label = in_words(tree, ("rules", index), ("rules",))
        hidden = [state for state in said if hiders[state]]
        if said and hidden == said:
            message = f"{label}can never be reached because of {_named(tree, set().union(*hiders.values()))}"
            tree.blame(("rules", index), message, "move it up or remove it")
            continue
        for state in hidden:
            message = f"{label}{state.value}: can never be reached because of {_named(tree, hiders[state])}"
            tree.blame(("rules", index, state.value), message, "move the rule up or remove this line")
        earlier.append((index, rule))


def _outline(data: dict[str, object]) -> Rule | None:
    """Return a rule with what it matches and the states it says something about; None where `match` is not valid."""
    match = read_match(data.get("match", {}))
    if match is None:
        return None
    completed, archived, done = (
        Retention(Keep.OWN) if state.value in data else None for state in (State.COMPLETED, State.ARCHIVED, State.DONE)
    )
    return Rule("", narrowing(match.queue), narrowing(match.type), completed, archived, done=done)


def _hiders(earlier: list[tuple[int, Rule]], rule: Rule, state: State) -> set[int]:
    """Return which earlier rules together match all that a rule matches; empty where something is left to it."""
    found: set[int] = set()
    for queue in rule.queues or (None,):
        for task_type in rule.types or (None,):
            part = replace(rule, queues=(queue,) if queue else (), types=(task_type,) if task_type else ())
            hider = next((index for index, other in earlier if other.hides(part, state)), None)
            if hider is None:
                return set()
            found.add(hider)
    return found


def _named(tree: Tree, indexes: set[int]) -> str:
    """Return some rules as a message names them."""
    names = (f"rule {rule_name(tree, index)} (line {tree.lines['rules', index]})" for index in sorted(indexes))
    return " and ".join(names)

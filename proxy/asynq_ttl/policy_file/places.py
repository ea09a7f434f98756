"""Where in a policy file a fault is, in words that a message starts with: `grace: `, or `rule noise: archived.ttl: `.

Works on plain data: the values around a fault may be wrong themselves.
"""

from asynq_ttl.policy_file.faults import shown
from asynq_ttl.policy_file.yaml_tree import Place, Tree


def rules_of(tree: Tree) -> list[tuple[int, dict[str, object]]]:
    """Return each rule that is a mapping, with its place in the list, from 0."""
    rules = tree.data.get("rules") if isinstance(tree.data, dict) else None
    found = rules if isinstance(rules, list) else []
    return [(index, rule) for index, rule in enumerate(found) if isinstance(rule, dict)]


def in_words(tree: Tree, path: Place, keys: tuple[str, ...]) -> str:
    """Return where a fault is, in words.

    Args:
        tree: the document.
        path: the place of the fault.
        keys: the keys that lead to what the message is about; the first is `rules` where the path is in a rule.
    """
    if len(path) > 1 and isinstance(path[1], int):
        keys = (f"rule {rule_name(tree, path[1])}", *([".".join(keys[1:])] if keys[1:] else []))
    return "".join(f"{key}: " for key in keys)


def rule_name(tree: Tree, index: int) -> str:
    """Return what a rule is called in a message: its name, or `number 3` where it has none.

    Args:
        tree: the document.
        index: the rule's place in the list, from 0.
    """
    name = dict(rules_of(tree))[index].get("name")
    return shown(name) if isinstance(name, str) and name else f"number {index + 1}"

"""The policy file: text in; a `Policy` out, or every fault of the text with its line and a hint.

A text goes through three steps, and the faults of all three come together:

* `yaml_tree` makes plain data of YAML and notes the line of every value.
* `mappings` reads every mapping, and `values` each value alone.
* `between` compares values: rules of one name, rules that say nothing, rules that can never decide.

Invariant: a text either gives a policy or raises `PolicyError`, whatever its bytes are.
"""

import hashlib
from pathlib import Path

from asynq_ttl.net.bounded_file import read_bounded
from asynq_ttl.policy.rules import Policy
from asynq_ttl.policy_file.between import blame_rules
from asynq_ttl.policy_file.faults import PolicyError, failure
from asynq_ttl.policy_file.mappings import read_document
from asynq_ttl.policy_file.yaml_tree import read

# Security limit: a policy file is small, and it is read again while the sidecar serves.
_MAX_BYTES = 1 << 20


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: it cannot be read or is not valid.
    """
    source = str(path)
    try:
        content = read_bounded(path, _MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: there is a NUL in the name
        reason = getattr(error, "strerror", None) or "it is no file name"
        raise failure(source, 0, f"cannot be read: {reason}", "is the path right?") from error
    _check_size(len(content), source)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise failure(source, line, "this line is not UTF-8", "save the file as UTF-8") from error
    return parse_policy(text, source)


def parse_policy(text: str, source: str) -> Policy:
    """Return the policy that a text describes.

    Args:
        text: the content of a policy file.
        source: its name, for messages and logs.

    Raises:
        PolicyError: the text is not valid; it holds every fault, not only the first.
    """
    encoded = text.encode("utf-8", "surrogatepass")
    _check_size(len(encoded), source)
    tree = read(text, source)
    document = read_document(tree)
    blame_rules(tree)
    if tree.faults or document is None:
        raise PolicyError(tuple(sorted(tree.faults, key=lambda fault: (fault.line, fault.message))))
    return Policy(
        tuple(rule.build() for rule in document.rules),
        mode=document.mode,
        grace_seconds=document.grace,
        rollout=document.rollout,
        adopt=document.adopt,
        source=source,
        digest=hashlib.sha256(encoded).hexdigest()[:12],
        text=text,
    )


def _check_size(size: int, source: str) -> None:
    if size > _MAX_BYTES:
        raise failure(source, 0, "is larger than 1 MiB", "is this a policy file?")

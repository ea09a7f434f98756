"""How a command is given a policy, and how that is loaded.

`check` and `explain` need nothing else: what a database takes to import is not imported here.
"""

from pathlib import Path

from asynq_ttl.cli.options import WRONG, FilePath, fail, option
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy
from asynq_ttl.policy_file.faults import PolicyError

policy_option = option("--policy", type=FilePath(), help="The policy file. Default: keep Asynq's own times.")


def load(policy: Path | None) -> Policy:
    """Return the policy of a file, or the built-in one; end where it has faults."""
    if policy is None:
        return DEFAULT_POLICY
    from asynq_ttl.policy_file.load import load_policy  # noqa: PLC0415 - with PyYAML, which most commands do without

    try:
        return load_policy(policy)
    except PolicyError as error:
        fail(str(error), WRONG)

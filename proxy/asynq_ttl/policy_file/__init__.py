"""The policy file: YAML in, a policy out, or every fault in it with its line.

The only importer of PyYAML. May import `policy`, `asynq` and `times`.
"""

"""The policy file: YAML in, a policy out, or every fault in it with its line.

The only importer of PyYAML and pydantic. May import `policy`, `asynq` and `times`.
"""

"""The Redis protocol: where a command ends, where a reply ends, how a command is written.

Knows no script and no task. The only importer of hiredis; imports nothing of ours.
"""

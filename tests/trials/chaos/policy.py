"""The policy under which the chaos runs, and what it says about each kind of task."""

TTL_SECONDS = 5
GRACE_SECONDS = 4
SWEEP_SECONDS = 0.5
# How long a killed sidecar's sweeper lock keeps the others from sweeping.
LOCK_SECONDS = 5

# The queue in which operators change nothing, so that what is held there is held for good.
VAULT = "vault"
OPERATED = ("orders", "mail", "stray")
QUEUES = (*OPERATED, VAULT)
# The queue that a saboteur takes from the list of queues again and again.
UNLISTED = "stray"

POLICY = f"""
version: 1
grace: {GRACE_SECONDS}s
rules:
  - name: noise
    match: {{type: "noise:*"}}
    archived: {{ttl: delete}}
    completed: {{ttl: {TTL_SECONDS}s}}
  - name: brief
    match: {{type: "brief:*"}}
    done: {{ttl: {TTL_SECONDS}s}}
  - name: precious
    match: {{type: "precious:*"}}
    archived: {{ttl: forever}}
    completed: {{ttl: {TTL_SECONDS}s}}
  - name: redo
    match: {{type: "redo:*"}}
    archived: {{ttl: {TTL_SECONDS}s, on_conflict: replace}}
    completed: {{ttl: {TTL_SECONDS}s, on_conflict: replace}}
    done: {{ttl: {TTL_SECONDS}s, on_conflict: replace}}
  - name: default
    archived: {{ttl: {TTL_SECONDS}s}}
    completed: {{ttl: {TTL_SECONDS}s}}
"""

TERMINAL = ("completed", "archived")
# Begins the IDs that are enqueued again and again.
REDO = "redo-"


def kept_when_done(task_id: str) -> bool:
    """Say whether a task that succeeds without a Retention is kept as a completed one.

    Args:
        task_id: begins with the task's kind.
    """
    return task_id.startswith(("brief-", REDO))


def replaced(task_id: str) -> bool:
    """Say whether an enqueue replaces a task that has ended.

    Args:
        task_id: begins with the task's kind.
    """
    return task_id.startswith(REDO)


def retention(task_id: str, state: str) -> int | None:
    """Return the seconds that a task is kept in a terminal state: None for ever, 0 not at all.

    Args:
        task_id: begins with the task's kind, which is the first part of its type.
        state: the terminal state.
    """
    if state == "archived" and task_id.startswith("noise-"):
        return 0
    return None if state == "archived" and task_id.startswith("precious-") else TTL_SECONDS

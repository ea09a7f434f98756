"""A report of an audit with some of everything, for the tests of what is drawn from it."""

from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.audit.forecast import forecast
from asynq_ttl.existing_keys.audit.problems import finding_of
from asynq_ttl.existing_keys.audit.report import Report
from asynq_ttl.policy.rules import DEFAULT_POLICY


def report() -> Report:
    """Return a report with some of everything."""
    tally = Tally(keys=12, indexes={"mail": 5000})
    for queue in ("mail", *(f"queue-{number:02}" for number in range(40))):
        group = tally.group(queue, "archived")
        group.tasks, group.content, group.timed, group.orphans = 200, 20_000, 50, 3
        for number in range(110):
            group.add_sample(250 + number, 100)
        group.add_age(90_000)
    tally.group("mail", "strange").tasks = 1
    found = [finding_of("ghost", 7, ["mail: <x>"])]
    ahead = forecast(tally, DEFAULT_POLICY)
    return Report("redis://h:1/0", "Redis 7.0", "built-in", 1_700_000_000, 2.5, tally, found, ahead)

"""Two pickers, one answer: the rule that a wrapper picks in Redis is the one that the policy decides on."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asynq_ttl.policy.glob import Glob, GlobError, compile_glob
from asynq_ttl.policy.rules import FULL_ROLLOUT, Keep, Policy, Rule, State
from support.asynq_calls import OWN_SECONDS
from support.policy_calls import DAY, DELETE, FOREVER, OWN, for_seconds, policy_of, types
from support.servers import Server
from support.wrapped import PREFIX, add, message, within, wrapped

GLOB_PIECES = [*"*?ab-^%.", "é", "日", "%d", "[ab]", "[!a]", "[a-c]", "[]-]", "[!^-]", "[%-+]"]
GLOBS = st.one_of(
    st.lists(st.sampled_from(GLOB_PIECES), min_size=1, max_size=7).map("".join),
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=6),
)
TYPES = st.one_of(
    st.text(alphabet="abcé日-^%.]+d\n\0", max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
# A server takes about a millisecond for an example, a slow one may take longer.
on_real_servers = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def compiled(text: str) -> Glob | None:
    """Return a glob, None for a text that is none."""
    try:
        return compile_glob(text)
    except GlobError:
        return None


FIND = """
local found = {}
for i = 2, #ARGV do
  found[i - 1] = string.find(ARGV[i], ARGV[1]) and 1 or 0
end
return found
"""


@on_real_servers
@given(glob=GLOBS, texts=st.lists(TYPES, min_size=1, max_size=20))
@example(glob="*" + "?" * 255, texts=["é" * 300, "日" * 254])
@example(glob="[!a]*", texts=["\x00", "\x7f", "\x80", "\xff", "\U0010ffff"])
def test_lua_matches_what_python_matches(server: Server, glob: str, texts: list[str]) -> None:
    """The Lua pattern of a glob finds the whole of exactly those texts that the glob matches."""
    one = compiled(glob)
    if one is None:
        return
    with server.client() as client:
        found = client.eval(FIND, 0, one.lua, *texts)
    assert found == [int(one.matches(text)) for text in texts]


RETENTIONS = st.one_of(st.integers(1, 100 * 365 * DAY).map(for_seconds), st.sampled_from([OWN, FOREVER, DELETE]))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Make a policy of up to four rules by type, perhaps with one for every type behind them."""
    rules = []
    for number in range(draw(st.integers(0, 4))):
        globs = [glob for text in draw(st.lists(GLOBS, min_size=1, max_size=3)) if (glob := compiled(text))]
        if globs:
            rules.append(Rule(f"rule{number}", types=tuple(globs), archived=draw(RETENTIONS)))
    if not rules or draw(st.booleans()):
        rules.append(Rule("rest", archived=draw(RETENTIONS)))
    share = draw(st.one_of(st.just(FULL_ROLLOUT), st.integers(1, FULL_ROLLOUT)))
    return policy_of(*rules, rollout=share)


def seconds_by_policy(policy: Policy, task_id: str, task_type: str) -> int | None:
    """Return how long the policy keeps an archived task; 0 not at all, None without a limit on its key."""
    if not policy.enforces(task_id.encode()):
        return None
    verdict = policy.decide("q", task_type, State.ARCHIVED)
    if verdict is not None:
        return verdict.retention.resolve(OWN_SECONDS)
    said = [rule.archived for rule in policy.rules if rule.archived is not None]
    outlasting = any(kept.keep is Keep.FOREVER or kept.seconds > OWN_SECONDS for kept in said)
    return OWN_SECONDS if outlasting else None


@on_real_servers
@given(
    policy=policies(),
    tasks=st.dictionaries(st.text("abcdefgh012", min_size=1, max_size=6), TYPES, max_size=12),
)
def test_the_rule_picked_in_redis_is_the_one_the_policy_decides_on(
    server: Server, policy: Policy, tasks: dict[str, str]
) -> None:
    """For any rules, types, share and IDs, bulk archiving gives each task what `Policy.decide` says."""
    with server.client() as client:
        client.flushdb()
        for task_id, task_type in tasks.items():
            add(client, task_id, "scheduled", task_type)
        ours = wrapped(client, "v0.26.0", "archiveAllCmd", policy)
        assert ours.reply == len(tasks)
    for task_id, task_type in tasks.items():
        seconds = seconds_by_policy(policy, task_id, task_type)
        assert (task_id in ours.hashes()) is (seconds != 0), task_id
        assert (task_id in ours.tasks("archived")) is (seconds != 0), task_id
        left = ours.ttl_of(task_id)
        assert within(left, seconds) if seconds else left is None, (task_id, seconds, left)


@on_real_servers
@given(
    data=st.one_of(
        st.binary(max_size=40),
        st.builds(lambda head, tail: head + tail, st.just(message("a1")), st.binary(max_size=12)),
    )
)
@example(data=b"\x80" * 200)
@example(data=b"\x0a" + b"\xff" * 200)
@example(data=message("a1")[:-1])
def test_a_message_that_does_not_decode_fails_nothing(server: Server, data: bytes) -> None:
    """Whatever bytes a task has for a message, bulk archiving moves it and answers as the original does."""
    with server.client() as client:
        client.flushdb()
        add(client, "s1", "scheduled")
        client.hset(f"{PREFIX}s1", "msg", data)
        policy = policy_of(Rule("some", types=types("*x*", "???"), archived=for_seconds(60)))
        ours = wrapped(client, "v0.26.0", "archiveAllCmd", policy)
    assert ours.reply == 1
    assert ours.tasks("archived") == ["s1"]
    assert ours.values[f"{PREFIX}s1"][b"msg"] == data

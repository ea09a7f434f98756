"""Conversations with a cluster of three masters: key `a` is at C, `b` at A, `c` at B."""

import pytest

from asynq_ttl.rewriting.registry import Status
from asynq_ttl.session.holding import Room
from asynq_ttl.wire.commands import HOLD_BYTES, encode
from support.conversation import complete, completed, pipeline
from support.routed import Cluster
from support.small_scripts import COMPLETE

OK, QUEUED = b"+OK\r\n", b"+QUEUED\r\n"
# Ports of the stand-in are numbers of nodes.
TO_A, TO_B = b"-MOVED 15495 10.0.0.1:0\r\n", b"-MOVED 15495 10.0.0.1:1\r\n"
ASK_B = b"-ASK 15495 10.0.0.1:1\r\n"
AGAIN = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"


def test_each_command_goes_to_the_master_of_its_key() -> None:
    """One node at a time; what is for the same one goes at once."""
    cluster = Cluster()
    cluster.sends("SET a 1", "GET a", "GET b", "GET c", "PING")
    assert cluster.takes("C") == ["SET a 1", "GET a"]
    assert (cluster.takes("A"), cluster.takes("B")) == ([], [])
    cluster.replies("C", OK)
    assert cluster.takes("A") == []
    cluster.replies("C", b"$1\r\n1\r\n")
    assert cluster.takes("A") == ["GET b"]
    cluster.replies("A", b"$-1\r\n")
    assert cluster.takes("B") == ["GET c", "PING"]
    cluster.replies("B", b"$-1\r\n+PONG\r\n")
    assert cluster.client_gets() == OK + b"$1\r\n1\r\n$-1\r\n$-1\r\n+PONG\r\n"
    assert (cluster.router.commands, cluster.router.replies) == (5, 5)
    assert not cluster.router.busy


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_any_cut_gives_the_same(step: int) -> None:
    """On both sides; with pushes between replies."""
    cluster = Cluster()
    cluster.sends("SET a 1", "LRANGE a 0 1", "GET b", step=step)
    cluster.replies("C", b">1\r\n+p\r\n", OK, b"*2\r\n$1\r\nx\r\n:1\r\n", b">1\r\n+q\r\n", step=step)
    cluster.replies("A", b"-ERR no\r\n", step=step)
    assert cluster.client_gets() == b">1\r\n+p\r\n" + OK + b"*2\r\n$1\r\nx\r\n:1\r\n>1\r\n+q\r\n-ERR no\r\n"
    assert cluster.takes("A") == ["GET b"]


def test_a_reply_streams_through() -> None:
    """Before it has ended; a push of another node waits for its end."""
    cluster = Cluster()
    cluster.sends("GET b")
    cluster.replies("A", b"$1\r\nx\r\n")
    cluster.sends("GET a")
    cluster.replies("C", b"$9\r\nabc")
    cluster.replies("A", b">1\r\n+p\r\n")
    assert cluster.client_gets() == b"$1\r\nx\r\n$9\r\nabc"
    cluster.replies("C", b"defghi\r\n")
    assert cluster.client_gets() == b"defghi\r\n>1\r\n+p\r\n"
    cluster.replies("A", b">1\r\n+q\r\n")
    assert cluster.client_gets() == b">1\r\n+q\r\n"


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_moved_is_followed(step: int) -> None:
    """The commands behind it keep their places, whether they were answered or sent on too."""
    cluster = Cluster()
    cluster.sends("SET a 1", "GET a", "GET {a}2", "GET a")
    cluster.takes("C")
    cluster.replies("C", TO_B, TO_B, b"$1\r\nx\r\n", step=step)
    assert cluster.client_gets() == b""
    cluster.replies("C", TO_B, step=step)
    assert cluster.looks > 0
    # The first two go to B one behind the other: nothing else is in between.
    assert cluster.takes("B") == ["SET a 1", "GET a"]
    cluster.replies("B", OK, b"$1\r\n1\r\n")
    assert cluster.takes("B") == ["GET a"]
    cluster.replies("B", b"$1\r\n2\r\n")
    assert cluster.client_gets() == OK + b"$1\r\n1\r\n$1\r\nx\r\n$1\r\n2\r\n"
    assert cluster.takes("C") == []


def test_ask_is_followed_with_asking() -> None:
    """Whose reply nobody gets."""
    cluster = Cluster()
    cluster.sends("GET a")
    cluster.replies("C", ASK_B)
    assert cluster.takes("B") == ["ASKING", "GET a"]
    cluster.replies("B", OK, b"$1\r\n1\r\n")
    assert cluster.client_gets() == b"$1\r\n1\r\n"
    cluster.sends("GET a")
    assert cluster.takes("C") == ["GET a", "GET a"]


@pytest.mark.parametrize(
    "refusal",
    [
        AGAIN,
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-CLUSTERDOWN Hash slot not served\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-MOVED 15495 10.0.0.1:9\r\n",
    ],
)
def test_what_was_not_executed_is_tried_again(refusal: bytes) -> None:
    """After a moment, at whoever serves the slot then; for five seconds."""
    cluster = Cluster()
    cluster.sends("GET a")
    for _ in range(3):
        assert cluster.takes("C") == ["GET a"]
        cluster.replies("C", refusal)
        assert cluster.takes("C") == []
        cluster.time_passes()
    cluster.moved[15495] = cluster.stop("A")
    cluster.replies("C", refusal)
    cluster.time_passes(6)
    assert cluster.takes("A") == ["GET a"]
    cluster.replies("A", refusal)
    told = refusal if not refusal.startswith(b"-MOVED") else b"-CLUSTERDOWN asynq-ttl: the nodes of the cluster send"
    assert cluster.client_gets().startswith(told)
    assert not cluster.over


@pytest.mark.parametrize(
    "error", [b"-TRYAGAIN later\r\n", b"-ERR no\r\n", b"-CLUSTERDOWN The cluster is down script\r\n"]
)
def test_other_errors_are_the_client_s(error: bytes) -> None:
    """They may come from a script, which was executed."""
    cluster = Cluster()
    cluster.sends("GET a")
    cluster.replies("C", error)
    assert cluster.client_gets() == error


def test_a_node_out_of_reach_is_waited_for() -> None:
    """Until another one has its slots, or for five seconds; the error says which one it is."""
    cluster = Cluster(ready=False)
    cluster.sends("GET a", "GET b")
    cluster.fails()
    cluster.time_passes()
    assert cluster.opening is cluster.stop("C")
    cluster.moved[15495] = cluster.stop("B")
    cluster.fails()
    cluster.time_passes()
    assert cluster.opening is cluster.stop("B")
    cluster.time_of(6)
    cluster.fails("node B is\nunavailable")
    assert cluster.client_gets() == b"-CLUSTERDOWN asynq-ttl: node B is unavailable\r\n"
    assert cluster.opening is cluster.stop("A")


def test_a_slot_that_nobody_serves_is_waited_for() -> None:
    """And so is a cluster without masters."""
    cluster = Cluster()
    cluster.moved[15495] = None
    cluster.sends("GET a")
    cluster.time_passes()
    cluster.time_passes(6)
    assert cluster.client_gets() == b"-CLUSTERDOWN asynq-ttl: no node of the cluster serves this\r\n"
    cluster.some_is = None
    cluster.sends("DBSIZE", "SCAN 0", "SUBSCRIBE x", "PING")
    for _ in range(4):
        cluster.time_passes(6)
    assert cluster.client_gets().count(b"-CLUSTERDOWN asynq-ttl: no node of the cluster serves") == 4


def test_a_connection_that_owes_a_reply_is_the_client_s_end() -> None:
    """Nobody knows whether its command was executed. One that owes nothing is opened anew."""
    cluster = Cluster()
    cluster.sends("GET a")
    cluster.replies("C", OK)
    cluster.hangs_up("C")
    cluster.hangs_up("B")
    assert not cluster.over
    cluster.sends("GET a")
    assert cluster.stop("C").opened == 2
    cluster.hangs_up("C")
    assert cluster.over
    cluster.sends("GET a")
    assert cluster.stop("C").opened == 2
    cluster.replies("C", OK)
    assert cluster.client_gets() == OK


def test_what_is_no_reply_ends_the_conversation() -> None:
    """And so does a reply that nobody has asked for."""
    for replies in (OK + OK, b"nonsense\r\n"):
        cluster = Cluster()
        cluster.sends("GET a")
        cluster.replies("C", replies)
        assert cluster.over


# --- what a client says of its own ------------------------------------------------------------------------------


def test_each_connection_begins_with_what_the_client_has_said() -> None:
    """In the order in which it was said last; the replies to that nobody gets. Other connections begin anew."""
    cluster = Cluster()
    cluster.sends("GET b")
    cluster.replies("A", OK)
    said = ["HELLO 3 AUTH u p", "CLIENT SETNAME x", "CLIENT SETINFO lib-name y", "CLIENT SETNAME z", "HELLO 3"]
    cluster.sends(*said, "GET c")
    assert cluster.takes("A") == ["GET b", said[0]]
    cluster.replies("A", b"%0\r\n")
    for number in (1, 2, 3, 4):
        assert cluster.takes("A") == [said[number]]
        cluster.replies("A", OK)
    assert cluster.takes("B") == [said[0], *said[2:]]
    cluster.replies("B", b"%0\r\n", b"-ERR unknown\r\n", OK)
    assert cluster.takes("B") == []
    cluster.replies("B", OK)
    assert cluster.takes("B") == ["GET c"]
    cluster.replies("B", b"_\r\n")
    assert cluster.client_gets() == OK + b"%0\r\n" + OK * 4 + b"_\r\n"
    # Said at B, so A is not as it should be any more.
    cluster.sends("CLIENT NO-EVICT on")
    cluster.replies("B", OK)
    assert not cluster.stop("A").is_open


def test_what_a_node_does_not_take_is_not_said_again() -> None:
    """Nor is what is large."""
    cluster = Cluster()
    cluster.sends("AUTH wrong", "CLIENT SETNAME " + "x" * 20_000, "GET b")
    cluster.replies("A", b"-WRONGPASS\r\n")
    cluster.replies("A", OK)
    assert cluster.takes("A")[2:] == ["GET b"]
    cluster.sends("GET a")
    cluster.replies("A", OK)
    assert cluster.takes("C") == ["GET a"]


def test_a_node_that_does_not_let_the_client_in_is_its_end() -> None:
    """The connection would not be what it takes it for."""
    cluster = Cluster()
    cluster.sends("AUTH p")
    cluster.replies("A", OK)
    cluster.sends("GET a")
    cluster.replies("C", b"-WRONGPASS\r\n")
    assert cluster.over


def test_what_a_client_says_of_its_own_is_bounded() -> None:
    """It has no more to say than there are things to be said."""
    cluster = Cluster()
    for number in range(17):
        cluster.sends(f"CLIENT SETINFO n{number} x")
        cluster.replies("A", OK)
    assert cluster.over


def test_reset_forgets_all_that() -> None:
    """A transaction too."""
    cluster = Cluster()
    cluster.sends("AUTH p", "MULTI", "SET b 1", "RESET", "GET a")
    cluster.replies("A", OK)
    cluster.replies("A", OK)
    cluster.replies("A", QUEUED)
    assert cluster.takes("A") == ["AUTH p", "MULTI", "SET b 1", "RESET"]
    cluster.replies("A", b"+RESET\r\n")
    assert cluster.takes("C") == ["GET a"]
    assert cluster.client_gets() == OK + OK + QUEUED + b"+RESET\r\n"


# --- all masters ------------------------------------------------------------------------------------------------


def test_some_commands_go_to_all_masters() -> None:
    """One after the other; their replies become one."""
    cluster = Cluster()
    cluster.sends("DBSIZE", "GET a")
    for name, number in (("A", 1), ("B", 2), ("C", 4)):
        assert cluster.takes(name) == ["DBSIZE"]
        cluster.replies(name, b":%d\r\n" % number)
    cluster.replies("C", OK)
    assert cluster.client_gets() == b":7\r\n" + OK


def test_a_master_out_of_reach_is_the_reply_of_all() -> None:
    """Once it has been waited for; the others are asked all the same."""
    cluster = Cluster(ready=False)
    cluster.sends("FLUSHALL")
    cluster.fails("away")
    cluster.time_of(6)
    cluster.time_passes()
    cluster.fails("away")
    for name in "BC":
        cluster.opens()
        cluster.replies(name, OK)
    assert cluster.client_gets() == b"-CLUSTERDOWN asynq-ttl: away\r\n"


def test_too_many_keys_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not all held."""
    monkeypatch.setattr("asynq_ttl.session.routing.router.MAX_HELD_BYTES", 20)
    cluster = Cluster()
    cluster.sends("KEYS *")
    for name in "ABC":
        cluster.replies(name, b"*1\r\n$6\r\nabcdef\r\n")
    assert cluster.client_gets() == (
        b"-ERR asynq-ttl: the replies of the cluster's masters are too large to be put together\r\n"
    )


def test_a_scan_goes_on_at_the_next_master() -> None:
    """The cursor says where."""
    cluster = Cluster()
    cluster.sends("SCAN 0", "SCAN 1 COUNT 5", "SCAN 7")
    cluster.replies("A", b"*2\r\n$1\r\n0\r\n*0\r\n")
    assert cluster.takes("B") == ["SCAN 0 COUNT 5"]
    cluster.replies("B", b"*2\r\n$1\r\n3\r\n*0\r\n")
    assert cluster.client_gets().startswith(
        b"*2\r\n$1\r\n1\r\n*0\r\n*2\r\n$4\r\n3073\r\n*0\r\n-ERR asynq-ttl: there is"
    )


# --- transactions -----------------------------------------------------------------------------------------------


def test_a_transaction_goes_where_its_first_command_goes() -> None:
    """Whoever serves the keys of the others: that is Redis's to say."""
    cluster = Cluster()
    cluster.sends("GET b", "MULTI")
    assert cluster.client_gets() == b""
    cluster.replies("A", OK)
    assert cluster.client_gets() == OK * 2
    assert cluster.router.busy
    cluster.sends("SET a 1", "SET b 1", "EXEC", "GET b")
    assert cluster.takes("C") == ["MULTI"]
    cluster.replies("C", OK)
    assert cluster.takes("C") == ["SET a 1"]
    cluster.replies("C", QUEUED)
    assert cluster.takes("C") == ["SET b 1", "EXEC"]
    moved, aborted = b"-MOVED 3300 10.0.0.1:0\r\n", b"-EXECABORT Transaction discarded\r\n"
    cluster.replies("C", moved, aborted)
    assert cluster.takes("A") == ["GET b", "GET b"]
    cluster.replies("A", OK)
    told = b"-TRYAGAIN asynq-ttl: the keys of the transaction are not all at one node\r\n"
    assert cluster.client_gets() == QUEUED + told + aborted + OK


def test_a_transaction_begins_elsewhere_if_its_first_command_has_to() -> None:
    """The node that refused it forgets it with its connection. A slot on its way is waited for."""
    cluster = Cluster()
    cluster.sends("MULTI", "SET a 1", "EXEC")
    cluster.replies("C", OK)
    cluster.replies("C", TO_B)
    assert not cluster.stop("C").is_open
    assert cluster.takes("B") == ["MULTI"]
    cluster.replies("B", OK)
    cluster.replies("B", ASK_B)
    assert not cluster.stop("B").is_open
    cluster.stop("C").takes()
    cluster.time_passes()
    assert cluster.takes("C") == ["MULTI"]
    cluster.replies("C", OK)
    assert cluster.takes("C") == ["SET a 1"]
    cluster.replies("C", QUEUED)
    assert cluster.takes("C") == ["EXEC"]
    cluster.replies("C", TO_B)
    told = b"-EXECABORT Transaction discarded: its keys have moved to another node\r\n"
    assert cluster.client_gets() == OK + QUEUED + told
    assert not cluster.router.busy


def test_a_transaction_ends_with_its_connection() -> None:
    """The client is hung up on. It is too where a node takes no transaction."""
    cluster = Cluster()
    cluster.sends("MULTI", "SET a 1")
    cluster.replies("C", OK)
    cluster.replies("C", QUEUED)
    cluster.hangs_up("C")
    assert cluster.over
    other = Cluster()
    other.sends("MULTI", "SET a 1")
    other.replies("C", b"-NOPERM no\r\n")
    assert other.over


def test_a_refusal_in_a_transaction_is_the_client_s() -> None:
    """Of a command that is not the first."""
    cluster = Cluster()
    cluster.sends("MULTI", "SET a 1", "SET a 2")
    cluster.replies("C", OK)
    cluster.replies("C", QUEUED)
    cluster.replies("C", AGAIN)
    assert cluster.client_gets() == OK + QUEUED + AGAIN


def test_keys_that_are_watched_choose_the_node() -> None:
    """Of the transaction, of what has no key, and of what else is watched; until it ends."""
    cluster = Cluster()
    cluster.sends("WATCH a")
    cluster.replies("C", TO_B)
    cluster.replies("B", OK)
    cluster.sends("WATCH b", "GET b", "PING")
    assert cluster.takes("B") == ["WATCH a", "WATCH b"]
    cluster.replies("B", b"-MOVED 3300 10.0.0.1:0\r\n")
    cluster.replies("A", b"$1\r\n1\r\n")
    assert cluster.takes("B") == ["PING"]
    cluster.replies("B", b"+PONG\r\n")
    crossed = b"-CROSSSLOT asynq-ttl: keys at another node are watched already\r\n"
    assert cluster.client_gets() == OK + crossed + b"$1\r\n1\r\n+PONG\r\n"
    cluster.sends("MULTI", "SET b 1")
    assert cluster.takes("B") == ["MULTI"]
    cluster.replies("B", OK)
    cluster.replies("B", QUEUED)
    cluster.sends("EXEC", "WATCH b", "UNWATCH")
    cluster.replies("B", b"*0\r\n")
    assert cluster.takes("A") == ["GET b", "WATCH b"]
    cluster.replies("A", OK)
    assert cluster.takes("A") == ["UNWATCH"]
    cluster.hangs_up("B")
    assert not cluster.over


def test_unwatch_waits_for_its_turn() -> None:
    """As every command does."""
    cluster = Cluster(ready=False)
    cluster.sends("UNWATCH")
    cluster.opens()
    assert cluster.takes("A") == ["UNWATCH"]


# --- one node for good ------------------------------------------------------------------------------------------


def test_a_subscriber_has_one_node_for_good() -> None:
    """What comes goes there, and what that says goes to the client: nothing waits for replies."""
    cluster = Cluster()
    cluster.sends("GET a", "SUBSCRIBE x", "PING", "GET b")
    assert cluster.takes("C") == ["GET a"]
    cluster.replies("C", OK)
    assert cluster.takes("C") == ["SUBSCRIBE x", "PING", "GET b"]
    assert not cluster.router.counting
    assert cluster.router.pending == 0
    cluster.replies("C", b">3\r\n+subscribe\r\n+x\r\n:1\r\n", b"+PO")
    assert cluster.client_gets() == OK + b">3\r\n+subscribe\r\n+x\r\n:1\r\n+PO"
    cluster.replies("C", b"NG\r\n-MOVED 3300 10.0.0.1:0\r\n")
    assert cluster.client_gets() == b"NG\r\n-MOVED 3300 side.car:6380\r\n"
    cluster.sends("SET a 1")
    assert cluster.takes("C") == ["SET a 1"]
    cluster.hangs_up("C")
    assert cluster.over


def test_a_sharded_channel_has_its_node() -> None:
    """By its slot; in a transaction that of the transaction."""
    cluster = Cluster()
    cluster.sends("SSUBSCRIBE c")
    assert cluster.takes("B") == ["SSUBSCRIBE c"]
    other = Cluster()
    other.sends("MULTI", "SUBSCRIBE c", "EXEC")
    other.replies("A", OK)
    assert other.takes("A") == ["MULTI", "SUBSCRIBE c", "EXEC"]


@pytest.mark.parametrize("data", [b"PING\r\n", b"*1\r\n:1\r\n", b"*2\r\n:1\r\n$1\r\nb\r\n", b"*x\r\n"])
def test_what_is_no_plain_command_one_node_has_to_understand(data: bytes) -> None:
    """From there on as it comes; what was before is answered before."""
    cluster = Cluster()
    cluster.sends_bytes(encode([b"GET", b"a"]) + data)
    cluster.replies("C", OK)
    assert cluster.stop("C").sent == encode([b"GET", b"a"]) + data
    cluster.sends_bytes(b"more\r\n")
    assert cluster.stop("C").sent.endswith(data + b"more\r\n")
    alone = Cluster()
    alone.sends_bytes(data)
    assert alone.stop("A").sent == data


# --- what is answered here --------------------------------------------------------------------------------------


def test_quit_and_asking_are_answered_here() -> None:
    """In their turn; after QUIT nothing more is done."""
    cluster = Cluster()
    cluster.sends_bytes(b"*0\r\n" + pipeline((b"GET", b"a"), (b"ASKING",), (b"QUIT",), (b"GET", b"b")))
    assert cluster.client_gets() == b""
    assert not cluster.over
    cluster.replies("C", OK)
    assert cluster.client_gets() == OK * 3
    assert cluster.over
    assert cluster.takes("A") == []


# --- scripts ----------------------------------------------------------------------------------------------------


def test_a_call_fits_the_wrappers_of_its_node() -> None:
    """It waits until the wrapper is loaded there, or goes as it came where it cannot be."""
    cluster = Cluster()
    script = cluster.talk.registry.learn(COMPLETE)
    call = complete(script.sha)
    cluster.sends_bytes(pipeline(call, (b"GET", b"{q}")))
    owner = next(stop for stop in cluster.stops if stop.opened)
    assert owner.takes() == []
    cluster.activation_ends(Status.ACTIVE)
    assert owner.takes() == [list(completed(script.wrapper_sha)), [b"GET", b"{q}"]]
    cluster.replies(owner.name, b"-MOVED 1 10.0.0.1:0\r\n", OK)
    other = cluster.stop("A")
    assert other is not owner
    cluster.activation_ends(Status.NEW)
    assert other.takes() == [list(call)]
    cluster.replies("A", OK)
    assert cluster.client_gets() == OK * 2
    assert cluster.talk.told() == []


def test_a_call_at_a_node_that_is_connected_to_waits_as_well() -> None:
    """Nothing goes before it."""
    cluster = Cluster()
    script = cluster.talk.registry.learn(COMPLETE)
    cluster.sends_bytes(pipeline((b"GET", b"{q}")))
    owner = next(stop for stop in cluster.stops if stop.opened)
    cluster.replies(owner.name, OK)
    owner.takes()
    cluster.sends_bytes(pipeline(complete(script.sha)))
    cluster.sends_bytes(pipeline((b"GET", b"{q}")))
    assert owner.takes() == []
    cluster.activation_ends(Status.ACTIVE)
    assert owner.takes() == [list(completed(script.wrapper_sha)), [b"GET", b"{q}"]]
    cluster.replies(owner.name, b":1\r\n")
    assert len(cluster.talk.told()) == 1


def test_a_node_lost_while_a_wrapper_is_loaded() -> None:
    """Is the end: ASKING may have been said."""
    cluster = Cluster()
    script = cluster.talk.registry.learn(COMPLETE)
    cluster.sends_bytes(pipeline(complete(script.sha)))
    owner = next(stop for stop in cluster.stops if stop.opened)
    cluster.hangs_up(owner.name)
    assert cluster.over
    cluster.activation_ends(Status.ACTIVE)
    assert owner.takes() == []


# --- limits -----------------------------------------------------------------------------------------------------


def test_a_large_command_is_held_until_it_is_whole() -> None:
    """Where there is room; its room is given back."""
    cluster = Cluster()
    value = b"x" * (3 * HOLD_BYTES)
    cluster.sends_bytes(encode([b"SET", b"a", value]), step=HOLD_BYTES)
    assert cluster.stop("C").takes() == [[b"SET", b"a", value]]
    assert cluster.talk.shared.room.taken_bytes == 0
    assert cluster.router.held_bytes == 0


def test_a_command_that_is_too_large_is_refused() -> None:
    """After what was before it; then the client is hung up on."""
    cluster = Cluster(room=Room(HOLD_BYTES))
    data = encode([b"GET", b"a"]) + encode([b"SET", b"a", b"x" * (3 * HOLD_BYTES)])
    cluster.sends_bytes(data, step=2 * HOLD_BYTES)
    cluster.replies("C", OK)
    assert cluster.client_gets() == (
        OK + b"-ERR asynq-ttl: the command is too large to be led to a node of the cluster\r\n"
    )
    assert cluster.over


def test_a_client_that_sends_much_is_not_read_from() -> None:
    """While it waits for a node."""
    cluster = Cluster(ready=False)
    cluster.sends(*["GET a"] * 1_001)
    assert cluster.full
    assert cluster.router.pending == 1_001
    cluster.opens()
    assert not cluster.full


def test_nothing_is_held_when_it_is_closed() -> None:
    """And nothing is done any more."""
    cluster = Cluster()
    cluster.sends("GET a", "GET b")
    cluster.router.close()
    assert not cluster.router.order.todo
    assert cluster.router.held_bytes == 0
    cluster.sends("GET c")
    assert cluster.takes("B") == []


def test_what_a_relay_asks_a_session_for() -> None:
    """Is there, and says that there is nothing to do."""
    router = Cluster().router
    router.receive_upstream(b"x")
    assert (router.resume(), router.waiting_for, router.database, router.counting) == (b"", None, 0, True)

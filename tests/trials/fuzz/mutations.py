"""Streams of commands and damage to them, for the differential fuzzer. Needs no fuzzer itself.

An input is three bytes that say how it is to be sent (`twins.Manner`), and the stream itself: so what was found is kept
as the bytes that a client sends, whatever becomes of this file.
"""

import random
import re
from collections.abc import Callable

from asynq_ttl.rewriting.registry import sha_of
from asynq_ttl.wire.commands import encode
from support.conversation import GROUPS, INDEX, PENDING, TASK, complete, dequeue, run
from support.small_scripts import COMPLETE, DEQUEUE, OTHER, RUN_ONE
from support.task_message import encode_task

HEADER_BYTES = 3
_Command = tuple[bytes, ...]

# Scripts in the shape of Asynq's that leave no ghosts whatever they are called with: otherwise the wrappers, which drop
# ghosts, would rightly make a difference. The lines around them stand where they change no shape.
TIDY_COMPLETE = (
    b'if KEYS[2] ~= string.sub(KEYS[1], 1, -10) .. "t:" .. ARGV[1] then return redis.error_reply("ODD") end\n'
    b'if redis.call("HGET", KEYS[2], "state") == "pending" then return redis.error_reply("PENDING") end' + COMPLETE
)
TIDY_RUN = (
    b'if KEYS[1] ~= string.sub(KEYS[2], 1, -8) .. "t:" .. ARGV[1] then return redis.error_reply("ODD") end\n'
    b'if redis.call("HGET", KEYS[1], "state") ~= "completed" then return 0 end\n'
    b'redis.call("ZREM", string.sub(KEYS[2], 1, -8) .. "completed", ARGV[1])' + RUN_ONE
)
TIDY_DEQUEUE = b'if ARGV[2] ~= string.sub(KEYS[1], 1, -8) .. "t:" then return redis.error_reply("ODD") end' + DEQUEUE
RAISING = b'return redis.call("INCR", KEYS[1], "too", "many")'
BROKEN = COMPLETE + b"this is no Lua"
SCRIPTS = (TIDY_COMPLETE, TIDY_RUN, TIDY_DEQUEUE, OTHER, RAISING, BROKEN)
_MESSAGE = encode_task("mail", "1", retention_seconds=3600)


def _complete(name: bytes, script: bytes) -> _Command:
    return complete(script, name=name, at=1_700_003_600, task=_MESSAGE)


def _calls(name: bytes, call: Callable[[bytes], bytes]) -> list[_Command]:
    """Return calls of every script; `call` says what stands for its text."""
    done = _complete(name, call(TIDY_COMPLETE))
    return [
        done,
        (*done, b"", b"more"),
        run(call(TIDY_RUN), name=name),
        dequeue(call(TIDY_DEQUEUE), name=name),
        (name, call(OTHER), b"1", b"k"),
        (name, call(RAISING), b"1", b"k"),
        _complete(name, call(BROKEN)),
        *((*done[:2], keys, *done[3:]) for keys in (b"02", b"+2", b"-1", b"6", b"x", b"", b"0", b"9" * 20)),
        (name, call(TIDY_COMPLETE)),
        (name,),
    ]


_PLAIN: list[_Command] = [
    *((b"PING",), (b"ping", b"x"), (b"ECHO", b"\r\n*1\r\n$4\r\nPING\r\n"), (b"SET", b"k", b"v"), (b"GET", b"k")),
    *((b"INCR", b"n"), (b"DEL", b"k"), (b"RPUSH", b"l", b"a", b"b"), (b"LRANGE", b"l", b"0", b"-1"), (b"LPOP", b"l")),
    *(
        (b"HSET", b"h", b"a", b"1"),
        (b"HGETALL", b"h"),
        (b"SADD", b"s", b"a"),
        (b"SMEMBERS", b"s"),
        (b"ZADD", b"z", b"1.5", b"a"),
    ),
    *((b"ZSCORE", b"z", b"a"), (b"GET", b"nothing"), (b"NOP", b"x"), (b"",), (b"", b"PING"), (), (b"GET",)),
    *((b"MULTI",), (b"EXEC",), (b"DISCARD",), (b"MULTI", b"x"), (b"EXEC", b"x"), (b"WATCH", b"k"), (b"UNWATCH",)),
    *((b"SELECT", b"0"), (b"SELECT", b"1"), (b"SELECT", b"99"), (b"SELECT", b"x"), (b"SELECT",)),
    *(
        (b"HELLO",),
        (b"HELLO", b"2"),
        (b"HELLO", b"3"),
        (b"HELLO", b"9"),
        (b"HELLO", b"3", b"SETNAME", b"a"),
        (b"HELLO", b"x"),
    ),
    *(
        (b"CLIENT", b"REPLY", b"ON"),
        (b"CLIENT", b"REPLY", b"OFF"),
        (b"CLIENT", b"REPLY", b"SKIP"),
        (b"client", b"reply"),
    ),
    *((b"CLIENT", b"SETNAME", b"a"), (b"CLIENT", b"GETNAME"), (b"CLIENT", b"TRACKING", b"ON"), (b"CLIENT",)),
    *((b"SUBSCRIBE", b"c"), (b"UNSUBSCRIBE",), (b"PSUBSCRIBE", b"*"), (b"PUNSUBSCRIBE",), (b"PUBLISH", b"c", b"m")),
    *(
        (b"SSUBSCRIBE", b"c"),
        (b"SUBSCRIBE",),
        (b"RESET",),
        (b"RESET", b"x"),
        (b"QUIT",),
        (b"AUTH", b"x"),
        (b"CLUSTER", b"SLOTS"),
    ),
    *(
        (b"SCRIPT", b"FLUSH"),
        (b"SCRIPT",),
        (b"SCRIPT", b"NOP"),
        (b"SCRIPT", b"LOAD"),
        (b"SCRIPT", b"KILL"),
        (b"BLPOP", b"b", b"0"),
    ),
]
COMMANDS: list[_Command] = [
    *_PLAIN,
    *_calls(b"EVAL", lambda text: text),
    *_calls(b"EVALSHA", sha_of),
    *_calls(b"evalsha", lambda text: sha_of(text).upper()),
    *((b"SCRIPT", b"LOAD", text) for text in SCRIPTS),
    *((b"script", b"exists", sha_of(text)) for text in (OTHER, RAISING)),
    (b"EVALSHA", b"0" * 40, b"1", INDEX),
    (b"EVALSHA", b"short", b"3", TASK, PENDING, GROUPS),
    (b"EVALSHA_RO", sha_of(OTHER), b"1", b"k"),
]
_INLINE = [
    *(
        b"PING\r\n",
        b"PING\n",
        b"\r\n",
        b"\n",
        b'ECHO "a b"\r\n',
        b'ECHO "a\r\n',
        b"SET k v\r\n",
        b"MULTI\r\n",
        b"EXEC\n",
    ),
    *(b"EVALSHA %b 1 k\r\n" % sha_of(OTHER), b"HELLO 3\r\n", b"ECHO 'x'y\r\n", b"SELECT 1\r\n", b"PING\r\r\n"),
]
_NUMBERS = [
    b"",
    b"-1",
    b"-0",
    b"-7",
    b"+1",
    b"01",
    b"00",
    b" 1",
    b"1 ",
    b"0x1",
    b"1.0",
    b"1\x00",
    b"\x001",
    b"1048576",
    b"1048577",
]
_NUMBERS += [b"536870912", b"536870913", b"999999999", b"2147483648", b"9" * 20, b"9" * 40, b"?"]
_LINE_ENDS = [b"\n", b"\r", b"\rx", b"\n\r", b"\r\n\r\n", b"\r\r\n", b"", b" \r\n", b"\x00\r\n"]
_SCRAPS = [
    b"*",
    b"$",
    b"\r\n",
    b"\r",
    b"\n",
    b"0",
    b"1",
    b"-",
    b"+",
    b" ",
    b"\x00",
    b":1\r\n",
    b"+a\r\n",
    b"_\r\n",
    b"$-1\r\n",
]
_SCRAPS += [
    b"*-1\r\n",
    b"*0\r\n",
    b"*1\r\n",
    b"$4\r\nPING\r\n",
    b"$0\r\n\r\n",
    b"~1\r\n",
    b"%1\r\n",
    b"|1\r\n",
    b">1\r\n",
    b"=8\r\ntxt:PING\r\n",
]
# Around the limits on what is held: the small ones of most runs, and the real one.
_SIZES = [edge + step for edge in (64, 1024) for step in range(-3, 4)] + [
    64 * 1024 + step for step in (-40, -1, 0, 1, 40)
]
_HEADER = re.compile(rb"[*$](\d+)\r\n")


def stream(source: random.Random) -> bytes:
    """Return an input with some commands."""
    manner = bytes(source.randrange(256) for _ in range(HEADER_BYTES))
    return manner + b"".join(_piece(source) for _ in range(source.randint(1, 12)))


def mutate(data: bytes, source: random.Random) -> bytes:
    """Change an input a little: a command more or fewer, or damage to one."""
    manner, body = data[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0"), data[HEADER_BYTES:]
    if source.random() < 0.15:
        at = source.randrange(HEADER_BYTES)
        return manner[:at] + bytes([source.randrange(256)]) + manner[at + 1 :] + body
    return manner + source.choice(_MUTATIONS)(body, source)


def _piece(source: random.Random) -> bytes:
    """Return a command, rarely a large one, or an inline one."""
    chance = source.random()
    if chance < 0.06:
        return source.choice(_INLINE)
    if chance < 0.16:
        return _large(source)
    return encode(source.choice(COMMANDS))


def _large(source: random.Random) -> bytes:
    """Return a command with an argument near a limit."""
    filler = b"x" * source.choice(_SIZES[:14] if source.random() < 0.95 else _SIZES)
    text = b"-- " + filler + b"\n" + TIDY_COMPLETE
    kinds: list[_Command] = [
        (b"ECHO", filler),
        (b"SET", filler, b"v"),
        (filler,),
        (b"SCRIPT", b"LOAD", text),
        _complete(b"EVAL", text),
        (b"EVAL", b"--" + filler, b"0"),
        (*_complete(b"EVALSHA", sha_of(TIDY_COMPLETE)), filler),
        (b"EVALSHA", sha_of(OTHER), b"1", b"k", filler),
        (b"SUBSCRIBE", b"c", filler),
        (b"ECHO", *[b"x"] * (len(filler) // 8)),
    ]
    return encode(source.choice(kinds))


def _starts(body: bytes) -> list[int]:
    """Return where commands begin, or what looks like it."""
    return [0, *(found.start() for found in re.finditer(rb"(?<=\r\n)\*", body)), len(body)]


def _insert(body: bytes, source: random.Random) -> bytes:
    at = source.choice(_starts(body))
    return body[:at] + _piece(source) + body[at:]


def _insert_damaged(body: bytes, source: random.Random) -> bytes:
    at = source.choice(_starts(body))
    return body[:at] + source.choice(_DAMAGE)(_piece(source), source) + body[at:]


def _remove(body: bytes, source: random.Random) -> bytes:
    starts = _starts(body)
    first = source.randrange(len(starts))
    return body[: starts[first]] + body[starts[min(first + source.randint(1, 2), len(starts) - 1)] :]


def _repeat(body: bytes, source: random.Random) -> bytes:
    starts = _starts(body)
    first = source.randrange(len(starts) - 1)
    return body[: starts[first + 1]] + body[starts[first] :]


def _renumber(body: bytes, source: random.Random) -> bytes:
    headers = list(_HEADER.finditer(body))
    if not headers:
        return _scrap(body, source)
    start, end = source.choice(headers).span(1)
    near = b"%d" % max(int(body[start:end][:9]) + source.choice((-2, -1, 1, 2)), 0)
    return body[:start] + source.choice([near, *_NUMBERS]) + body[end:]


def _break_line(body: bytes, source: random.Random) -> bytes:
    ends = [found.start() for found in re.finditer(rb"\r\n", body)]
    if not ends:
        return _scrap(body, source)
    at = source.choice(ends)
    return body[:at] + source.choice(_LINE_ENDS) + body[at + 2 :]


def _all_lines(body: bytes, source: random.Random) -> bytes:
    return body.replace(b"\r\n", source.choice(_LINE_ENDS[:3]))


def _scrap(body: bytes, source: random.Random) -> bytes:
    at = source.randint(0, len(body))
    return body[:at] + source.choice(_SCRAPS) + body[at + source.choice((0, 0, 1, 2)) :]


def _truncate(body: bytes, source: random.Random) -> bytes:
    return body[: source.randint(0, len(body))]


def _flip(body: bytes, source: random.Random) -> bytes:
    at = source.randint(0, max(len(body) - 1, 0))
    return body[:at] + bytes([source.randrange(256)]) + body[at + 1 :]


_DAMAGE = (_renumber, _renumber, _break_line, _all_lines, _scrap, _truncate, _flip)
_MUTATIONS = (_insert, _insert, _insert, _insert_damaged, _insert_damaged, _remove, _repeat, *_DAMAGE)

"""Property: the time it takes to read a script grows with its length, whatever it is made of."""

import time

import pytest

from asynq_ttl.asynq.script_shape import classify


@pytest.mark.parametrize(
    "piece",
    [
        b'"\\',
        b"'\\",
        b"--[[\n",
        b"[==[",
        b"[=",
        b"redis.call(",
        b"local a=a..",
        b"local a=",
        b"]=",
        b"a,",
        b"function ",
        b"KEYS",
        b"ARGV[1]=",
        b"((((",
        b"if a",
        b"if a and ",
        b"while a do ",
        b"local a=ARGV[1]+",
        b'redis.call("ZCARD",',
        b'redis.call("ZPOPMIN",KEYS[1],redis.call("ZCARD",KEYS[1])-ARGV[1])',
    ],
)
def test_no_text_takes_long_to_read(piece: bytes) -> None:
    """The time grows with the length of a text and no faster, whatever it is made of."""

    def seconds(length: int) -> float:
        started = time.process_time()
        classify(piece * (length // len(piece)))
        return time.process_time() - started

    # Each the quickest of some tries: other tests run at the same time. Were it the square, it would be 64 times.
    short, long = (min(seconds(length) for _ in range(2)) for length in (8 * 1024, 64 * 1024))
    assert long < 24 * short + 0.1

"""Hypothesis strategies for commands and chunks that are hard to tell from each other."""

from hypothesis import strategies as st

WORDS = st.one_of(st.binary(max_size=8), st.sampled_from((b"EVALSHA", b"evalsha", b"a", b"\r\n", b"$1\r\n", b"x" * 40)))
"""Arguments of a command."""
COMMANDS = st.lists(WORDS, min_size=1, max_size=6)

_SHORT = [bytes([byte]) for byte in b"*$+-:_#,(!>|012a \r\n"]
_LONGER = [b"", b"\r\n", b"-1", b"01", b"+1", b"ab", b"999999999", b"9999999999", b"$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"]
_PIECES = st.sampled_from([*_SHORT, *_LONGER, b"$1\r\nb\r\n", b"*1\r\n$1\r\nb\r\n"])
CHUNKS = st.one_of(st.lists(_PIECES, max_size=8).map(b"".join), st.binary(max_size=12))
"""Bytes that are commands, replies, or nearly so."""

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.policy.glob import Glob, GlobError, compile_glob

_PIECES = st.lists(
    st.sampled_from(["*", "?", "a", "b", "é", "-", "^", "%", ".", "[ab]", "[!a]", "[a-c]", "[]-]", "[!^-]"]),
    min_size=1,
    max_size=7,
)
_TEXTS = st.text(alphabet="abcé-^%.]日\n", max_size=8)


def _glob_of(pieces: list[str]) -> Glob | None:
    try:
        return compile_glob("".join(pieces))
    except GlobError:
        return None


def _reference(pieces: tuple[str, ...], text: str) -> bool:
    """Match by trying everything, straight from the definition of a glob."""

    @cache
    def match(piece: int, character: int) -> bool:
        if piece == len(pieces):
            return character == len(text)
        if pieces[piece] == "*":
            return any(match(piece + 1, rest) for rest in range(character, len(text) + 1))
        if character == len(text):
            return False
        return _one(pieces[piece], text[character]) and match(piece + 1, character + 1)

    return match(0, 0)


def _one(piece: str, character: str) -> bool:
    if piece == "?":
        return True
    if not piece.startswith("["):
        return piece == character
    members = {"[ab]": "ab", "[!a]": "a", "[a-c]": "abc", "[]-]": "]-", "[!^-]": "^-"}[piece]
    return (character in members) is not piece.startswith("[!")


@given(_PIECES, _TEXTS)
def test_matching_is_what_the_definition_says(pieces: list[str], text: str) -> None:
    """A glob matches what a matcher that tries everything matches, neither more nor less."""
    glob = _glob_of(pieces)
    if glob is not None:
        assert glob.matches(text) is _reference(tuple(pieces), text)


@given(_PIECES, _PIECES, st.lists(_TEXTS, max_size=20))
def test_covering_is_never_claimed_wrongly(wide: list[str], narrow: list[str], texts: list[str]) -> None:
    """Where one glob covers another, no text is matched by the other alone."""
    wide_glob, narrow_glob = _glob_of(wide), _glob_of(narrow)
    if wide_glob is None or narrow_glob is None or not wide_glob.covers(narrow_glob):
        return
    for text in texts:
        assert wide_glob.matches(text) or not narrow_glob.matches(text)


@given(_PIECES, st.data())
def test_covering_holds_for_texts_made_from_the_narrow_glob(pieces: list[str], data: st.DataObject) -> None:
    """A glob that covers one from which some characters were widened matches each text made from that one."""
    narrow = _glob_of(pieces)
    widened = [data.draw(st.sampled_from(["*", "?", piece] if piece != "*" else ["*"])) for piece in pieces]
    wide = _glob_of(widened)
    if narrow is None or wide is None:
        return
    text = "".join(data.draw(_text_of(piece)) for piece in pieces)
    assert narrow.matches(text)
    assert wide.covers(narrow)
    assert wide.matches(text)


def _text_of(piece: str) -> st.SearchStrategy[str]:
    if piece == "*":
        return st.text(alphabet="ab日", max_size=3)
    if piece == "?":
        return st.sampled_from("ab日\n")
    if piece.startswith("["):
        return st.sampled_from([character for character in "abcd]-^z" if _one(piece, character)])
    return st.just(piece)


@given(_PIECES)
def test_a_glob_covers_itself(pieces: list[str]) -> None:
    """Covering is reflexive."""
    glob = _glob_of(pieces)
    assert glob is None or glob.covers(glob)


@given(st.text(max_size=30) | st.text(alphabet="[]!*?-a", max_size=12))
def test_any_text_is_a_glob_or_is_refused(text: str) -> None:
    """No text makes the compiler fail in another way, and what it compiles can match."""
    try:
        glob = compile_glob(text)
    except GlobError:
        return
    glob.matches(text)
    assert glob.lua.startswith(b"^")
    assert glob.lua.endswith(b"$")

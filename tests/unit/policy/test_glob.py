import pytest

from asynq_ttl.policy.glob import GlobError, compile_glob


@pytest.mark.parametrize(
    ("glob", "text", "expected"),
    [
        ("payments", "payments", True),
        ("payments", "payments2", False),
        ("payments", "Payments", False),
        ("a.c", "abc", False),
        ("email:*", "email:", True),
        ("email:*", "email:welcome\nagain", True),
        ("*:ping", "a:ping", True),
        ("*:ping", "a:ping:", False),
        ("**", "", True),
        ("*a*b*", "xxaxxbxx", True),
        ("*a*b*", "xxbxxaxx", False),
        ("*ab*b", "ab", False),
        ("*ab*b", "aabb", True),
        ("a*a", "a", False),
        ("?", "ü", True),
        ("?", "", False),
        ("q-[0-9]", "q-7", True),
        ("q-[0-9]", "q-x", False),
        ("q-[!0-9]", "q-x", True),
        ("q-[!0-9]", "q-7", False),
        ("[!a]", "日", True),
        ("[]x]", "]", True),
        ("[!]x]", "]", False),
        ("[a-]", "-", True),
        ("[-a]", "-", True),
        ("[^]", "^", True),
        ("[&&~~||]", "~", True),
        ("a]", "a]", True),
        ("%d", "%d", True),
    ],
)
def test_a_glob_matches_whole_texts(glob: str, text: str, expected: bool) -> None:
    """Wildcards stand for any characters, sets for one, everything else for itself."""
    assert compile_glob(glob).matches(text) is expected


@pytest.mark.parametrize(
    ("glob", "reason"),
    [
        ("", "empty"),
        ("a\nb", "control characters"),
        ("\ud800", "surrogate"),
        ("x" * 257, "256 characters"),
        ("*a" * 6, "5 times"),
        ("[ab", "not closed"),
        ("[]", "not closed"),
        ("[!]", "not closed"),
        ("[ä]", "outside ASCII"),
        ("[z-a]", "wrong way round"),
    ],
)
def test_a_broken_glob_is_refused_with_the_reason(glob: str, reason: str) -> None:
    """What cannot be understood, or would be slow to match, is no glob."""
    with pytest.raises(GlobError, match=reason):
        compile_glob(glob)


@pytest.mark.parametrize(
    ("glob", "lua"),
    [
        ("a-b", b"^a%-b$"),
        ("a*", b"^a.*$"),
        ("a**b", b"^a.*b$"),
        ("?", b"^[^\x80-\xbf][\x80-\xbf]*$"),
        ("ü", b"^\xc3\xbc$"),
        ("[a-c_]", b"^[a-c%_]$"),
        ("[!0-9]", b"^[^0-9\x80-\xbf][\x80-\xbf]*$"),
        ("[+--]", b"^[%+%,%-]$"),
        ("^%$", b"^%^%%%$$"),
    ],
)
def test_a_glob_is_a_lua_pattern_too(glob: str, lua: bytes) -> None:
    """The pattern is anchored, its literals are escaped, and one character is one UTF-8 sequence."""
    assert compile_glob(glob).lua == lua


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("*", "?"),
        ("*", "a*b"),
        ("a*", "a"),
        ("a*", "ab*c"),
        ("*a*", "*a"),
        ("*b*c", "abxc"),
        ("?", "a"),
        ("?", "[ab]"),
        ("?*", "??*"),
        ("[ab]", "a"),
        ("[ab]", "[ab]"),
        ("[!a]", "b"),
        ("**", "*"),
    ],
)
def test_a_glob_covers_a_narrower_one(wide: str, narrow: str) -> None:
    """What the narrow glob matches, the wide one matches for certain."""
    assert compile_glob(wide).covers(compile_glob(narrow))


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("a", "*"),
        ("a*", "*a"),
        ("?", "*"),
        ("a", "b"),
        ("a", "aa"),
        ("aa", "a"),
        ("[ab]", "c"),
        ("[ab]", "[bc]"),
        ("[ab]", "?"),
        ("a", "?"),
        ("*b*c", "abxd"),
        ("?*", ""),
    ],
)
def test_a_glob_does_not_cover_what_it_may_not_match(wide: str, narrow: str) -> None:
    """One text that only the narrow glob matches is enough."""
    assert not compile_glob(wide).covers(compile_glob(narrow or "*"))


def test_globs_are_equal_by_their_text() -> None:
    """Two compilations of a text are the same glob, so rules compare by what was written."""
    assert compile_glob("a*") == compile_glob("a*")
    assert len({compile_glob("a*"), compile_glob("a*"), compile_glob("b*")}) == 2


@pytest.mark.timeout(60)
def test_a_miss_costs_no_backtracking() -> None:
    """The time for a text that almost matches does not explode with the number of wildcards."""
    assert not compile_glob("*a*a*a*a*b").matches("a" * 2_000)

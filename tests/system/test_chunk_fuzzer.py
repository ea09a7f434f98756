"""`make fuzz-c` as it is run, for some seconds, and on code with a fault. Needs Debian's clang."""

from pathlib import Path

import pytest

from support.paths import PACKAGE
from trials.fuzz.run_c import build, fuzz, sources

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# Each a mistake that C would not notice by itself, and what gives it away.
FAULTS = {
    "a number that is not looked at": ("(kind != VARINT && number > (unsigned long long)(end - at))", "0", "Sanitizer"),
    "a length that is not looked at": ("end - at < *length + 2 ||", "", "AddressSanitizer"),
    "a line end that may be cut off": ("end - at < 2 || at[0]", "end - at < 1 || at[0]", "AddressSanitizer"),
    "too many digits": ("MAX_DIGITS = 9", "MAX_DIGITS = 99", "runtime error"),
    "a name that is too long": ("if (length > MAX_NAME) {", "if (length > MAX_NAME + 1) {", "runtime error"),
    "a reference that is kept": ("Py_DECREF(key);", "", "LeakSanitizer"),
    "memory that may not be there": ("if (argument == NULL) {", "if (0) {", "does not hold"),
    "a byte that is taken for a number with a sign": ("(unsigned char)key[position]", "key[position]", "runtime error"),
    "what stands behind the last line": ("&& ++at != end)", "&& ++at)", "AddressSanitizer"),
    "a reference that is lost": (
        "place(flight, LONE), Py_NewRef(data)",
        "place(flight, LONE), data",
        "AddressSanitizer",
    ),
    "an element that is not there": ("|| number < 0 || number > count)", ")", "runtime error"),
    "a sum that is too large": (
        "!overflow && *number < MOST_ADDED && *number > -MOST_ADDED",
        "!overflow",
        "runtime error",
    ),
    "a decision that is not there": ("if (made == NULL) {", "if (0) {", "Sanitizer"),
    "a decision that is kept": ("Py_XDECREF(out);\n    Py_XDECREF(told);", "Py_XDECREF(out);", "does not hold"),
    "an outcome without what was decided": ("Py_NewRef(items[item])", "items[item]", "AddressSanitizer"),
    "an exception without a word": ("if (special < 0) {", "if (0) {", "does not hold"),
}


def test_nothing_is_found(tmp_path: Path) -> None:
    """Neither by the sanitizers nor by what the fuzzer itself checks."""
    run = fuzz(build(tmp_path), tmp_path, 15)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "stat::number_of_executed_units" in run.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(tmp_path: Path, fault: str) -> None:
    """The fuzzer finds what is broken on purpose."""
    right, wrong, sign = FAULTS[fault]
    assert any(right in source.read_text() for source in sources())
    for source in sources():
        copy = tmp_path / "package" / source.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source.read_text().replace(right, wrong))
    run = fuzz(build(tmp_path, tmp_path / "package"), tmp_path, 10)
    assert run.returncode != 0
    assert sign in run.stderr, run.stderr[-3000:]

import pytest

from asynq_ttl.policy_file.places import in_words, rule_name, rules_of
from asynq_ttl.policy_file.yaml_tree import Place, read

TREE = read("version: 1\nrules: [{name: noise}, 7, {archived: {ttl: 1d}}, {name: ''}, {name: [a]}]\n", "FILE")


@pytest.mark.parametrize(
    ("path", "keys", "words"),
    [
        ((), (), ""),
        (("grace",), ("grace",), "grace: "),
        (("rules", 0), ("rules",), "rule noise: "),
        (("rules", 0, "archived"), ("rules", "archived"), "rule noise: archived: "),
        (("rules", 0, "archived", "ttl"), ("rules", "archived", "ttl"), "rule noise: archived.ttl: "),
        (("rules", 2, "match", "queue", 1), ("rules", "match", "queue"), "rule number 3: match.queue: "),
    ],
)
def test_a_place_is_named_by_its_rule_and_its_keys(path: Place, keys: tuple[str, ...], words: str) -> None:
    """Keys inside a rule come after its name, with dots between them."""
    assert in_words(TREE, path, keys) == words


@pytest.mark.parametrize("index", [2, 3, 4])
def test_a_rule_without_a_usable_name_is_called_by_its_number(index: int) -> None:
    """Counted from 1, as a person does."""
    assert rule_name(TREE, index) == f"number {index + 1}"


def test_what_is_no_mapping_is_no_rule_and_keeps_its_place() -> None:
    """The rules after it are numbered as they stand in the file."""
    assert [index for index, _ in rules_of(TREE)] == [0, 2, 3, 4]


@pytest.mark.parametrize("text", ["", "7", "rules: 7", "rules:", "version: 1"])
def test_a_document_without_a_list_of_rules_has_none(text: str) -> None:
    """However wrong the file is."""
    assert rules_of(read(text, "FILE")) == []

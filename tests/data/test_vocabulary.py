"""Vocabularies and labels: order, unknowns, JSON."""

import pytest

from penstock.data.vocabulary import Labels, Vocabulary
from penstock.errors import InputError


def test_vocabulary_is_ordered_by_frequency_then_name() -> None:
    words = Vocabulary.build(["b", "a", "c", "a", "b", "d", "<pad>", "<unk>", "<unk>"])
    assert list(words) == ["<pad>", "<unk>", "a", "b", "c", "d"]
    assert words.ids(["a", "zebra", "d"]).tolist() == [2, 1, 5]
    assert words.ids(["a"]).dtype == "int32"
    assert words.ids([]).shape == (0,)
    assert "a" in words
    assert "zebra" not in words


def test_vocabulary_limits() -> None:
    tokens = ["a", "a", "a", "b", "b", "c"]
    assert Vocabulary.build(tokens, min_frequency=2).tokens[2:] == ["a", "b"]
    assert len(Vocabulary.build(tokens, max_size=3)) == 3
    assert len(Vocabulary.build([])) == 2


def test_vocabulary_json() -> None:
    words = Vocabulary.build(["é", '"', "\n", "中", "\u2028"])
    assert Vocabulary.from_json(words.to_json()).tokens == words.tokens


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["a"]', '["<pad>", "<unk>", "a", "a"]', '["<pad>", "<u'])
def test_vocabulary_of_a_damaged_file(text: str) -> None:
    with pytest.raises(InputError, match=r"^words\.json: "):
        Vocabulary.from_json(text, "words.json")


def test_labels_are_sorted_as_text_or_as_numbers() -> None:
    assert list(Labels.collect(["pos", "neg", "pos"], "a.csv")) == ["neg", "pos"]
    assert list(Labels.collect(["10", "9", "1"], "a.csv")) == ["1", "9", "10"]
    assert list(Labels.collect(["10", "9", "x"], "a.csv")) == ["10", "9", "x"]
    assert list(Labels.collect(["1.0", "1", "nan", "2"], "a.csv")) == ["1", "1.0", "2", "nan"]


def test_label_ids() -> None:
    labels = Labels.collect(["neg", "pos"], "a.csv")
    assert [labels.id(name, "a.csv", 1) for name in labels] == [0, 1]
    assert len(labels) == 2
    assert "pos" in labels
    assert Labels.from_json(labels.to_json()).names == labels.names


@pytest.mark.parametrize(("file", "unit"), [("test.csv", "line"), ("test.parquet", "row")])
def test_unknown_label(file: str, unit: str) -> None:
    with pytest.raises(InputError) as caught:
        Labels(["neg", "pos"]).id("netural", file, 7)
    assert str(caught.value) == f"{file}, {unit} 7: unknown label 'netural'; expected one of 'neg', 'pos'"


def test_unknown_among_many_labels_is_one_short_sentence() -> None:
    with pytest.raises(InputError, match=r"'l19', \.\.\.$"):
        Labels([f"l{i}" for i in range(1000)]).id("x", "a", 1)


@pytest.mark.parametrize(("names", "got"), [(["a", "a"], "only 'a'"), ([], "none")])
def test_one_class_only(names: list[str], got: str) -> None:
    with pytest.raises(InputError, match=f"a.csv: expected at least two different labels, got {got}"):
        Labels.collect(names, "a.csv")


@pytest.mark.parametrize("text", ["", "3", '["a", "a"]', "[null]"])
def test_labels_of_a_damaged_file(text: str) -> None:
    with pytest.raises(InputError, match=r"^labels\.json: (?!labels)"):
        Labels.from_json(text)

"""From tagged files to encoded sentences and batches."""

import json
from collections import Counter

import numpy as np
import pytest

from penstock.data.ragged import RaggedArray
from penstock.data.vocabulary import PAD_ID, UNKNOWN_ID, Vocabulary
from penstock.errors import InputError
from penstock.tasks.tag.config import Config
from penstock.tasks.tag.data import (
    FORMS,
    FREQUENCY,
    SCHEME,
    VECTORS,
    Encoder,
    Lexicon,
    TagData,
    collate,
    collate_labelled,
    prepare,
)

TRAIN = "The\tO\nthe\tO\nAnna\tB-x\nLee\tI-x\n\nOslo\tB-y\nthe\tO\n"
DEV = "the\tO\nBob\tB-x\n"


def spelled(encoder: Encoder, row: np.ndarray) -> tuple[str, str]:
    """The word and the characters of a form's row."""
    return encoder.words.tokens[row[0]], "".join(encoder.characters.tokens[i] for i in row[1:])


@pytest.fixture
def prepared(write, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    files = {"data": write("train.tsv", TRAIN), "dev": write("dev.tsv", DEV), "test": write("test.tsv", DEV)}
    config = Config.model_validate({**files, "output": tmp_path / "out"})
    prepare(config, folder)
    return config, folder


def load_encoder(config, folder):
    assets = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return Encoder.load(assets, config, folder)


def test_prepare_encodes_every_part(prepared):
    config, folder = prepared
    encoder = load_encoder(config, folder)
    forms = RaggedArray(folder / FORMS)
    train, dev = TagData(folder, "train"), TagData(folder, "dev")
    assert [len(part) for part in (train, dev, TagData(folder, "test"))] == [2, 1, 1]
    assert train.lengths.tolist() == [4, 2]
    assert [spelled(encoder, forms[form])[0] for form in train[0].forms] == ["the", "the", "anna", "lee"]
    assert train[0].forms[0] != train[0].forms[1], "The and the are two forms of one word"
    assert [encoder.labels.names[label] for label in train[0].labels] == ["O", "O", "B-x", "I-x"]
    assert spelled(encoder, forms[dev[0].forms[1]])[0] == "<unk>"
    assert json.loads((folder / SCHEME).read_text()) == "bio"
    frequency = np.load(folder / FREQUENCY)
    assert dict(zip(encoder.words.tokens, frequency.tolist(), strict=True)) == {
        **dict.fromkeys(["<pad>", "<unk>"], 0),
        **{"the": 3, "anna": 1, "lee": 1, "oslo": 1},
    }


def test_collate_spells_each_form_once(prepared):
    config, folder = prepared
    encoder = load_encoder(config, folder)
    forms = RaggedArray(folder / FORMS)
    train = TagData(folder, "train")
    batch = collate_labelled([train[0], train[1]], forms)
    assert batch["lengths"].tolist() == [4, 2]
    assert len(batch["characters"]) == 5, "The, the, Anna, Lee, Oslo"
    words = [[encoder.words.tokens[i] for i in row] for row in batch["words"].tolist()]
    assert words == [["the", "the", "anna", "lee"], ["oslo", "the", "<pad>", "<pad>"]]
    for row, example in enumerate((train[0], train[1])):
        for step, form in enumerate(example.forms):
            place = batch["forms"][row, step]
            length = batch["character_lengths"][place]
            assert batch["characters"][place, :length].tolist() == forms[form][1:].tolist()
            assert not batch["characters"][place, length:].any()
    assert not batch["labels"][1, 2:].any()


def test_batch_of_one_sentence_as_in_a_larger_batch(prepared):
    _, folder = prepared
    forms, train = RaggedArray(folder / FORMS), TagData(folder, "train")
    alone, together = collate([train[1].forms], forms), collate([train[0].forms, train[1].forms], forms)
    assert together["words"][1, :2].tolist() == alone["words"][0].tolist()


def encoder_of(tokens: str, **options) -> Encoder:
    config = Config.model_validate({"data": "train.tsv", "output": "out", **options})
    return Encoder.learn(config, Counter(tokens.split()), ["A", "B"])


def test_unknown_words_and_characters():
    encoder = encoder_of("ab ab ab abc", min_frequency=2)
    assert encoder.words.tokens == ["<pad>", "<unk>", "ab"]
    assert encoder.characters.tokens == ["<pad>", "<unk>", "a", "b"], "c occurs once"
    assert encoder.form("abc").tolist() == [UNKNOWN_ID, 2, 3, UNKNOWN_ID]


def test_case_is_kept_in_characters_and_optional_in_words():
    assert spelled(encoder_of("Ab Ab ab ab"), encoder_of("Ab Ab ab ab").form("Ab")) == ("ab", "Ab")
    kept = encoder_of("Ab Ab ab ab", lowercase=False)
    assert spelled(kept, kept.form("Ab")) == ("Ab", "Ab")


def test_middle_of_a_long_word_is_left_out():
    encoder = encoder_of("abcdefg abcdefg", longest_word=5)
    assert spelled(encoder, encoder.form("abcdefg")) == ("abcdefg", "abcfg")
    assert spelled(encoder, encoder.form("abcde"))[1] == "abcde"


def test_lexicon_encodes_each_form_once():
    rows = []
    lexicon = Lexicon(encoder_of("a b a b"), rows.append)
    assert lexicon.numbers(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert lexicon.numbers(["c", "a"]).tolist() == [2, 1]
    assert len(rows) == 3


def test_dev_part_of_the_training_file(write, tmp_path):
    text = "\n".join(f"w{i}\tA\nx\tB\n" for i in range(50))
    data = write("train.tsv", text)
    config = Config.model_validate({"data": data, "output": tmp_path / "out", "dev_fraction": 0.2})
    parts = []
    for name in "12":
        folder = tmp_path / name
        folder.mkdir()
        prepare(config, folder)
        parts.append((TagData(folder, "train").lengths.tolist(), len(TagData(folder, "dev"))))
        words = Vocabulary.from_json((folder / "words.json").read_text())
        dev, forms = TagData(folder, "dev"), RaggedArray(folder / FORMS)
        assert {forms[dev[i].forms[0]][0] for i in range(len(dev))} == {UNKNOWN_ID}
        assert len(words) == 2 + 40 + 1, "the words of held-out sentences are not learned"
    assert parts[0] == parts[1]
    assert parts[0][1] == 10


def test_several_training_files_are_one_after_the_other(write, tmp_path):
    files = [write("a.tsv", TRAIN), write("b.tsv", DEV)]
    both = write("both.tsv", f"{TRAIN}\n{DEV}")
    read = []
    for number, data in enumerate((files, both)):
        folder = tmp_path / str(number)
        folder.mkdir()
        prepare(Config.model_validate({"data": data, "dev": both, "output": tmp_path / "out"}), folder)
        train = TagData(folder, "train")
        read.append([(train[i].forms.tolist(), train[i].labels.tolist()) for i in range(len(train))])
    assert len(read[0]) == 3
    assert read[0] == read[1]


def test_a_mistake_in_a_later_training_file_names_that_file(write, tmp_path):
    files = [write("a.tsv", TRAIN), write("b.tsv", "the\tO\nBob\n")]
    with pytest.raises(InputError, match=r"b\.tsv, line 2"):
        prepare(Config.model_validate({"data": files, "output": tmp_path / "out"}), tmp_path)


def test_vectors(write, tmp_path):
    vectors = write("vectors.txt", "the 1 2 3\nanna 4 5 6\nother 7 8 9\n")
    files = {"data": write("train.tsv", TRAIN), "dev": write("dev.tsv", DEV), "vectors": vectors}
    config = Config.model_validate({**files, "output": tmp_path / "out"})
    folder = tmp_path / "data"
    folder.mkdir()
    prepare(config, folder)
    words = load_encoder(config, folder).words
    matrix = np.load(folder / VECTORS)
    assert matrix.shape == (len(words), 3)
    assert matrix[words.ids(["the", "anna"])].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not matrix[PAD_ID].any()
    assert matrix[words.ids(["lee"])].any(), "words without a vector start at random"


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (
            {"train": TRAIN, "dev": "the\tO\nBob\tB-z\n"},
            {},
            r"dev\.tsv, line 2: unknown label 'B-z'; expected",
        ),
        ({"train": TRAIN, "dev": "the\tO\nBob\n"}, {}, r"dev\.tsv, line 2: .*columns"),
        ({"train": TRAIN, "dev": ""}, {}, r"dev\.tsv: the file is empty"),
        ({"train": TRAIN, "dev": "\n\n"}, {}, r"dev\.tsv: expected sentences"),
        ({"train": "a\tO\n\nb\tO\n", "dev": DEV}, {}, r"train\.tsv: expected at least two different labels"),
        ({"train": "a\tX\nb\tY\n", "dev": DEV}, {"scheme": "bio"}, r"--scheme bio: .*'[XY]' in .*train\.tsv"),
        ({"train": TRAIN, "dev": DEV}, {"column": "3"}, r"train\.tsv, line 1: expected a tag in column 3"),
        ({"train": TRAIN, "dev": DEV}, {"column": "upos"}, r"train\.tsv, line 1: column 'upos'"),
        ({"train": TRAIN}, {"dev": "missing.tsv"}, r"missing\.tsv: no such file"),
        ({"train": "a\tX\nb\tY\n"}, {}, r"cannot hold out"),
    ],
)
def test_mistakes_name_file_and_line(write, tmp_path, files, options, message):
    paths = {name: write(f"{name}.tsv", text) for name, text in files.items()}
    config = Config.model_validate(
        {"data": paths["train"], "dev": paths.get("dev"), "output": tmp_path / "out", **options}
    )
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=message):
        prepare(config, tmp_path / "data")

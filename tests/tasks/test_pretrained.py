"""Classifiers and taggers that start from a language model: vocabulary, weights, sizes."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import penstock
from penstock.errors import InputError
from penstock.search.options import SearchOptions
from penstock.search.run import Search
from penstock.tasks import classify, lm, tag
from penstock.tasks.classify.config import Config as ClassifyConfig
from penstock.tasks.classify.job import ClassifyJob
from penstock.tasks.classify.model import Classifier
from penstock.tasks.lm.config import Config as LmConfig
from penstock.tasks.lm.predictor import Predictor as LanguagePredictor
from penstock.tasks.tag.config import Config as TagConfig
from penstock.tasks.tag.job import TagJob
from penstock.training.job import Batch
from penstock.training.saved import read_model
from tests.cli.command import penstock as command
from tests.tasks.classify.files import reviews
from tests.tasks.tag.language import columns, sentences

Train = Callable[..., Path]
SMALL_LM = {"window": 16, "batch_rows": 8, "embedding_size": 6, "hidden_size": 10, "threads": 1, "epochs": 1}
TEXTS = ["a lovely film\nof splendid scene", "", "Ünseen wörds, 12 <pad> dull"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.csv of labelled texts, the same as plain.txt; train.tsv of tagged sentences, words.txt."""
    folder = tmp_path_factory.mktemp("data")
    table = reviews(folder / "train.csv", 160, seed=1).read_text().splitlines()[1:]
    (folder / "plain.txt").write_text("\n".join(row.rpartition(",")[0] for row in table) + "\n")
    tagged = sentences(150, seed=1)
    (folder / "train.tsv").write_text(columns(tagged))
    (folder / "words.txt").write_text(
        "".join(" ".join(token for token, _ in sentence) + "\n" for sentence in tagged)
    )
    return folder


@pytest.fixture(scope="module")
def language(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train a language model, each only once."""
    models = tmp_path_factory.mktemp("languages")

    def train(level: str, text: str = "plain.txt", **options: Any) -> Path:
        output = models / "-".join([level, text, *(f"{name}={options[name]}" for name in options)])
        if not output.exists():
            chosen = {**SMALL_LM, "vocabulary_size": 300, **options}
            files = {"data": data / text, "output": output}
            lm.train(LmConfig.model_validate({**files, "level": level, **chosen}))
        return output

    return train


def classify_config(data: Path, output: Path, **options: Any) -> ClassifyConfig:
    small = {"epochs": 1, "threads": 1, "batch_rows": 32, "text": "text", "label": "mood"}
    return ClassifyConfig.model_validate({**small, "data": data / "train.csv", "output": output, **options})


def tag_config(data: Path, output: Path, **options: Any) -> TagConfig:
    small = {"epochs": 1, "threads": 1, "batch_rows": 32, "character_hidden_size": 4}
    return TagConfig.model_validate({**small, "data": data / "train.tsv", "output": output, **options})


def begun(job: type[ClassifyJob] | type[TagJob], config: Any, folder: Path) -> Any:
    """The job with its model as it is before training."""
    config = job.resolve(config)
    folder.mkdir()
    job.prepare(config, folder)
    return job(config, folder)


def outputs(stack: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The outputs of a recurrent stack in its forward direction, for one sequence (T, D)."""
    stack.eval()
    with torch.no_grad():
        return stack(x[None])[0][0]


def language_outputs(folder: Path, ids: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (T, D) of ids, and what the last recurrent layer of a language model makes of them."""
    model = LanguagePredictor(folder).model.eval()
    with torch.no_grad():
        embedded = model.embedding(torch.from_numpy(ids).long())
        x = embedded[None]
        for layer in range(model.config.layers):
            x, _ = model.get_submodule(f"recurrent{layer + 1}")(x)
    return embedded, x[0]


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_texts_have_the_tokens_of_the_language_model(
    language: Train, data: Path, tmp_path: Path, level: str
) -> None:
    folder = language(level)
    job = begun(ClassifyJob, classify_config(data, tmp_path / "m", init_from=folder), tmp_path / "data")
    rows = job.encoder.encode(TEXTS)
    codec = LanguagePredictor(folder)._codec
    assert [row.tolist() for row in rows] == [codec.encode(text).tolist() or [1] for text in TEXTS]
    assert job.encoder.input_size == len(codec)
    assert job.config.vocabulary == len(codec)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 2, "peephole": True, "projection_size": 4},
        {"cell": "gru", "reset_after": False, "tie": True},
        {"cell": "rnn", "layers": 2, "nonlinearity": "relu"},
    ],
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_forward_direction_computes_what_the_language_model_does(
    language: Train, data: Path, tmp_path: Path, options: dict[str, Any], bidirectional: bool
) -> None:
    folder = language("word", **options)
    config = classify_config(data, tmp_path / "m", init_from=folder, bidirectional=bidirectional)
    job = begun(ClassifyJob, config, tmp_path / "data")
    (row,) = job.encoder.encode(["the film was dull and the plot awful"])
    embedded, expected = language_outputs(folder, row)
    assert torch.equal(job.model.input.eval()(torch.from_numpy(row)[None].long())[0], embedded)
    found = outputs(job.model.recurrent, embedded)
    assert found.shape[1] == expected.shape[1] * (2 if bidirectional else 1)
    torch.testing.assert_close(found[:, : expected.shape[1]], expected)


def test_a_tagger_reads_the_words_of_the_language_model(language: Train, data: Path, tmp_path: Path) -> None:
    folder = language("word", "words.txt")
    job = begun(TagJob, tag_config(data, tmp_path / "m", init_from=folder), tmp_path / "data")
    codec = LanguagePredictor(folder)._codec
    forms = [job._encoder.form(word)[0] for word in ["the", "cat", "sees", "Nobody"]]
    assert forms == codec.encode("the cat sees Nobody").tolist()
    assert forms[-1] == 1
    embedded, expected = language_outputs(folder, np.array(forms))
    spelled = torch.randn(len(forms), job.model.encoder.input_size - embedded.shape[1])
    found = outputs(job.model.encoder, torch.cat([embedded, spelled], 1))
    torch.testing.assert_close(found[:, : expected.shape[1]], expected)


def test_fresh_parts_are_unfrozen_first(language: Train, data: Path, tmp_path: Path) -> None:
    options = {"init_from": language("word", layers=2), "bidirectional": True}
    model = begun(ClassifyJob, classify_config(data, tmp_path / "m", **options), tmp_path / "c").model
    names = {id(weight): name for name, weight in model.named_parameters()}
    groups = [[names[id(weight)] for weight in group] for group in model.layer_groups()]
    assert groups[0] == ["input.embedding.weight"]
    assert "recurrent.weight_hh_l1" in groups[2]
    assert not any(name.endswith("_reverse") for group in groups[:3] for name in group)
    assert {"recurrent.weight_hh_l0_reverse", "output.weight"} <= set(groups[3])

    options = {"init_from": language("word", "words.txt")}
    tagger = begun(TagJob, tag_config(data, tmp_path / "m", **options), tmp_path / "t").model
    assert any(weight is tagger.spelling.embedding.weight for weight in tagger.layer_groups()[-1])


def test_a_model_from_scratch_has_both_directions_in_a_group(data: Path, tmp_path: Path) -> None:
    model = begun(ClassifyJob, classify_config(data, tmp_path / "m"), tmp_path / "c").model
    assert [len(group) for group in model.layer_groups()] == [1, 8, 2]


def test_a_classifier_needs_no_language_model_once_it_is_trained(
    language: Train, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "language"
    shutil.copytree(language("bpe"), folder)
    output = tmp_path / "model"
    report = classify.train(
        classify_config(
            data, output, init_from=folder, epochs=6, unfreeze_every=1, layer_decay=0.5, learning_rate=0.02,
            pooling="last+mean+max", dropout=0.1,
        )
    )  # fmt: skip
    shutil.rmtree(folder)
    assert report.metrics["dev"]["accuracy"] > 0.8
    moved = output.rename(tmp_path / "moved")
    found = penstock.load(moved).predict(["a lovely film of splendid scene", "dull awful dull"])
    assert [answer["label"] for answer in found] == ["good", "bad"]
    figures = classify.evaluate(moved, data / "train.csv")["metrics"]
    assert figures["accuracy"] > 0.8


def test_what_is_taken_over_is_stored(language: Train, data: Path, tmp_path: Path) -> None:
    folder = language("char", cell="gru", layers=2)
    command(
        "train", "classify", data / "train.csv", "--text", "text", "--label", "mood", "--init-from", folder,
        "--epochs", "1", "--threads", "1", "--hidden-size", "10", "--output", tmp_path / "model",
    )  # fmt: skip
    config = read_model(tmp_path / "model").config
    taken = {"cell": "gru", "layers": 2, "hidden_size": 10, "embedding_size": 6, "tokenizer": "char"}
    assert taken.items() <= config.items()
    stored = tmp_path / "model" / "config.yaml"
    command("train", "classify", "--config", stored, "--output", tmp_path / "again")
    first, second = (tmp_path / name / "model.safetensors" for name in ("model", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_resumed_run_equals_the_unbroken_one(
    language: Train, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"init_from": language("word"), "unfreeze_every": 1, "layer_decay": 0.4, "epochs": 3}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    classify.train(classify_config(data, whole, **options))
    steps = iter(range(1, 100))

    def loss(model: Classifier, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        if model.training and next(steps) == 7:  # of 5 in an epoch
            signal.raise_signal(signal.SIGINT)
        return trained_loss(model, outputs, batch)

    trained_loss = Classifier.loss
    monkeypatch.setattr(Classifier, "loss", loss)
    assert classify.train(classify_config(data, broken, **options)).interrupted
    monkeypatch.undo()
    classify.train(classify_config(data, broken, resume=True, **options))
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()


def test_a_tagger_learns(language: Train, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    options = {"epochs": 8, "unfreeze_every": 1, "learning_rate": 0.02, "batch_rows": 8}
    options |= {"dropout": 0.1, "embedding_dropout": 0.1}
    tag.train(tag_config(data, output, init_from=language("word", "words.txt"), **options))
    assert tag.evaluate(output, data / "train.tsv")["metrics"]["f1"] > 0.8
    assert read_model(output).config["lowercase"] is False


@pytest.mark.parametrize(
    ("level", "options", "message"),
    [
        ("word", {"hidden_size": 64}, r"--hidden-size 64: the language model .* has 10; leave the option"),
        ("word", {"cell": "gru"}, r"--cell gru: the language model .* has lstm"),
        ("word", {"tokenizer": "bpe"}, r"--tokenizer bpe: the language model .* has word"),
        ("word", {"lowercase": True}, r"--lowercase True: the language model .* has False"),
        ("word", {"text": None, "id": "mood"}, r"--init-from .*: a language model is for texts; give --text"),
    ],
)
def test_what_contradicts_the_language_model_is_said(
    language: Train, data: Path, tmp_path: Path, level: str, options: dict[str, Any], message: str
) -> None:
    config = classify_config(data, tmp_path / "m", **{"init_from": language(level), **options})
    with pytest.raises(InputError, match=message):
        classify.train(config)
    assert not (tmp_path / "m").exists()


def test_what_no_model_can_start_from_is_said(language: Train, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--init-from .*: expected a .* of words .* level char"):
        tag.train(tag_config(data, tmp_path / "m", init_from=language("char", "words.txt")))
    uneven = language("word", layers=2, tie=True)
    with pytest.raises(InputError, match=r"--init-from .*: expected recurrent layers of one size, got 10"):
        classify.train(classify_config(data, tmp_path / "m", init_from=uneven))
    with pytest.raises(InputError, match="no such folder"):
        classify.train(classify_config(data, tmp_path / "m", init_from=tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="give either word vectors or init_from=language"):
        classify_config(data, tmp_path / "m", init_from="language", vectors="vectors.txt")


def test_a_search_leaves_what_the_language_model_has(data: Path, language: Train, tmp_path: Path) -> None:
    files = {"data": data / "train.csv", "output": tmp_path / "found", "init_from": language("word")}
    config = ClassifyConfig.model_validate({**files, "text": "text", "label": "label"})
    space = Search("classify", config, None, SearchOptions.model_validate({})).space
    assert "learning_rate" in space
    assert not {"layers", "hidden_size"} & set(space)

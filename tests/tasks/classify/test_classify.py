"""Classification from files to predictions, through its three public functions."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock.errors import InputError
from penstock.tasks import classify
from penstock.training.saved import read_model
from tests.tasks.classify.files import reviews, small_config, ts, waves


def test_a_small_model_learns_texts(text_model: Path) -> None:
    assert read_model(text_model).metrics["test"]["accuracy"] > 0.9
    found = penstock.load(text_model).predict(["a lovely film of splendid scene", "dull awful dull"])
    assert [answer["label"] for answer in found] == ["good", "bad"]


def test_a_small_model_learns_series(series_model: Path, data: Path) -> None:
    assert classify.evaluate(series_model, data / "steps.csv")["metrics"]["accuracy"] > 0.9
    fresh = waves(30, seed=9)
    found = penstock.load(series_model).predict([values for values, _ in fresh])
    assert np.mean([answer["label"] == kind for answer, (_, kind) in zip(found, fresh, strict=True)]) > 0.9


def test_ts_files_are_learnt_by_the_same_verb(tmp_path: Path) -> None:
    config = small_config(
        ts(tmp_path / "train.ts", 150),
        tmp_path / "model",
        epochs=6,
        test=ts(tmp_path / "test.ts", 60, seed=5),
    )
    assert classify.train(config).metrics["test"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"tokenizer": "bpe", "vocabulary": 400},
        {"tokenizer": "char", "pooling": "attention"},
        {"cell": "gru", "pooling": "last", "layers": 2, "reset_after": False},
        {"cell": "rnn", "pooling": "max", "bidirectional": False},
        {"peephole": True, "pooling": "mean", "word_dropout": 0.1, "embedding_dropout": 0.1},
        {"projection_size": 6, "label_smoothing": 0.1, "average": 0.9},
    ],
)
def test_every_kind_of_model_learns_and_comes_back(
    data: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    report = classify.train(
        small_config(
            data / "train.csv",
            tmp_path / "model",
            text="text",
            label="mood",
            dropout=0.2,
            **{"epochs": 5, **options},
        )
    )
    assert report.metrics["dev"]["accuracy"] > 0.9
    again = classify.evaluate(tmp_path / "model", data / "test.csv")
    assert again["metrics"]["accuracy"] > 0.9


def test_texts_without_spaces_need_no_option(tmp_path: Path) -> None:
    table = tmp_path / "train.jsonl.gz"
    with gzip.open(table, "wt", encoding="utf-8") as file:
        for i in range(200):
            mood = ["好", "坏"][i % 2]
            text = f"这部电影{'非常精彩' if mood == '好' else '十分无聊'}，第{i}次看。"
            file.write(json.dumps({"text": text, "label": mood}, ensure_ascii=False) + "\n")
    config = small_config(table, tmp_path / "model", text="text")
    assert classify.train(config).metrics["dev"]["accuracy"] > 0.9
    assert penstock.load(tmp_path / "model").predict(["演得精彩"])[0]["label"] == "好"


def test_pretrained_vectors_are_used_and_can_stay(data: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("good 1 0 0\nlovely 1 0 0\nbad 0 1 0\nnowhere 9 9 9\n")
    config = small_config(
        data / "train.csv",
        tmp_path / "model",
        text="text",
        label="mood",
        vectors=vectors,
        freeze_vectors=True,
    )
    classify.train(config)
    model = penstock.load(tmp_path / "model").model
    weights = model.input.embedding.weight.detach().numpy()
    assert weights.shape[1] == 3
    for row in ([1, 0, 0], [0, 1, 0]):
        assert (weights == np.array(row, np.float32)).all(1).any()
    assert (np.abs(weights[2:]).sum(1) > 0).all()


def test_vectors_that_fit_nothing_are_said(data: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("xylophone 1 0 0\n")
    config = small_config(data / "train.csv", tmp_path / "model", text="text", label="mood", vectors=vectors)
    with pytest.raises(InputError, match=r"vectors\.txt: none of the \d+ words has a vector"):
        classify.train(config)
    with pytest.raises(InputError, match="only texts cut into words or characters"):
        classify.train(config.model_copy(update={"tokenizer": "bpe", "vocabulary": 400}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vectors.txt"]


def test_the_figures_of_an_evaluation_agree(text_model: Path, data: Path) -> None:
    figures = classify.evaluate(text_model, data / "test.csv", batch_tokens=300)
    confusion = np.array(figures["confusion"])
    assert confusion.sum() == 100
    assert figures["metrics"]["accuracy"] == pytest.approx(confusion.trace() / 100)
    for i, (label, row) in enumerate(figures["labels"].items()):
        assert row["count"] == confusion[i].sum(), label
        assert row["recall"] == pytest.approx(confusion[i, i] / confusion[i].sum())
        assert row["precision"] == pytest.approx(confusion[i, i] / confusion[:, i].sum())
    stored = read_model(text_model).metrics["test"]
    assert figures["metrics"] == pytest.approx({name: stored[name] for name in figures["metrics"]}, abs=1e-5)


def test_predictions_do_not_depend_on_their_company(text_model: Path) -> None:
    model = penstock.load(text_model, batch_tokens=64)
    texts = ["good film", "", "the plot was dull " * 30, "多么好", "awful"] * 150
    together = model.predict(texts)
    for text, answer in zip(texts[:5], together[-5:], strict=True):
        assert answer["probabilities"] == pytest.approx(model.predict([text])[0]["probabilities"], abs=2e-6)
    for answer in together:
        assert answer["probability"] == max(answer["probabilities"].values())
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_wrong_inputs_to_predict_are_said(text_model: Path, series_model: Path) -> None:
    assert penstock.load(text_model).predict([]) == []
    with pytest.raises(TypeError, match="expected a list of texts, got one text"):
        penstock.load(text_model).predict("good")
    model = penstock.load(series_model)
    good = np.zeros((4, 2), np.float32)
    with pytest.raises(InputError, match=r"series 2: expected shape \(steps, 2\), got \(4, 3\)"):
        model.predict([good, np.zeros((4, 3))])
    with pytest.raises(InputError, match=r"series 1: expected shape \(steps, 2\), got \(0, 2\)"):
        model.predict([good[:0]])
    with pytest.raises(InputError, match="series 1: expected finite numbers"):
        model.predict([good * np.nan])


@pytest.mark.parametrize("name", ["tokenizer.json", "labels.json"])
def test_a_foreign_asset_is_said(text_model: Path, tmp_path: Path, data: Path, name: str) -> None:
    folder = shutil.copytree(text_model, tmp_path / "model")
    for content in ("{", "[]", '["x"]'):
        (folder / name).write_text(content)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            penstock.load(folder)


def test_a_model_of_other_labels_or_words_is_said(text_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(text_model, tmp_path / "model")
    (folder / "labels.json").write_text('["bad", "good", "so-so"]')
    with pytest.raises(InputError, match=r"labels\.json: expected the 2 labels of the model, got 3"):
        penstock.load(folder)


def test_the_split_is_seeded_and_stratified(tmp_path: Path) -> None:
    table = reviews(tmp_path / "train.csv", 200)
    from penstock.tasks.classify.data import Examples, prepare  # noqa: PLC0415

    def split(seed: int) -> tuple[Examples, Examples]:
        folder = tmp_path / f"data-{seed}"
        folder.mkdir(exist_ok=True)
        prepare(
            small_config(table, tmp_path / "m", text="text", label="mood", seed=seed, dev_fraction=0.25),
            folder,
        )
        return Examples(folder, "train"), Examples(folder, "dev")

    train, dev = split(1)
    assert (len(train), len(dev)) == (150, 50)
    assert abs(train.labels.mean() - dev.labels.mean()) < 0.02
    assert [row.tolist() for row in split(1)[1].rows] == [row.tolist() for row in dev.rows]
    assert [row.tolist() for row in split(2)[1].rows] != [row.tolist() for row in dev.rows]

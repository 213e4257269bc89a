"""The whole way: train, predict and evaluate as real processes on real files."""

import io
import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import penstock as package
from penstock.cli import main
from penstock.errors import InputError
from penstock.tasks import lm
from penstock.tasks.lm.config import PredictOptions
from penstock.tasks.lm.job import LmJob
from penstock.tasks.lm.model import LanguageModel
from penstock.tasks.lm.predictor import Predictor
from penstock.tasks.streams import Part
from penstock.training import fit
from tests.cli.command import penstock
from tests.tasks.lm.conftest import Write
from tests.tasks.lm.text import SMALL, sentences, small_config, unigram_nats


@pytest.fixture(scope="session")
def predictor(model: Path) -> Predictor:
    return package.load(model, threads=1)


def test_learns_and_reports(model: Path, corpus: Path) -> None:
    metrics = json.loads((model / "metrics.json").read_text())
    text = (corpus / "test.txt").read_text()
    assert metrics["test"]["nats"] < unigram_nats(text) / 3
    for part in ("dev", "test"):
        figures = metrics[part]
        assert figures["perplexity"] == pytest.approx(math.exp(figures["nats"]), rel=1e-4)
        assert figures["bits_per_character"] == pytest.approx(figures["nats"] / math.log(2), rel=1e-4)
        assert figures.get("loss", figures["nats"]) == pytest.approx(figures["nats"], rel=1e-4)
    found = lm.evaluate(model, corpus / "test.txt", threads=1)["metrics"]
    for name, value in metrics["test"].items():
        assert found[name] == pytest.approx(value, rel=1e-4)


def test_scores_sum_to_what_evaluation_says(predictor: Predictor, model: Path, write: Write) -> None:
    text = sentences(40, seed=7)
    scores = predictor.score(text)
    assert "".join(token for token, _ in scores) == text
    assert len(text) < 2048
    nats = lm.evaluate(model, write("new.txt", text), threads=1)["metrics"]["nats"]
    assert -sum(value for _, value in scores) / len(scores) == pytest.approx(nats, rel=1e-5)
    assert predictor.score("") == []


def test_parallel_streams_measure_nearly_as_one(model: Path, write: Write) -> None:
    path = write("long.txt", sentences(300, seed=8))
    one, many = (
        lm.evaluate(model, path, threads=1, batch_tokens=steps)["metrics"]["nats"] for steps in (1, 8192)
    )
    assert many == pytest.approx(one, rel=0.01)


def test_generation(predictor: Predictor, model: Path) -> None:
    first, second = predictor.predict(["Ann saw", "Bob"], length=40, seed=3)
    assert first["prompt"] == "Ann saw"
    assert first["text"].startswith(" ")
    assert second["text"].startswith(" saw ")
    assert (len(first["text"]), len(second["text"])) == (40, 40)
    assert predictor.predict(["Ann saw", "Bob"], length=40, seed=3) == [first, second]
    assert predictor.predict(["Ann saw", "Bob"], length=40, seed=4) != [first, second]
    assert predictor.predict(["Ann saw"], length=40, seed=3) == [first]
    assert "".join(predictor.generate("Ann saw", length=40, seed=3)) == first["text"]
    same = predictor.predict(["", ""], length=60)
    assert same[0] != same[1], "every text has its own chance"
    greedy = [predictor.predict(["Bob saw"], length=30, temperature=0, seed=seed) for seed in (1, 2)]
    assert greedy[0] == greedy[1]
    few = package.load(model, threads=1, batch_tokens=1)
    assert few.predict(["Ann saw", "Bob"], length=40, seed=3) == [first, second], "one after the other"
    assert predictor.predict(["Bob"], length=0) == [{"prompt": "Bob", "text": ""}]
    assert predictor.predict([]) == []
    with pytest.raises(TypeError, match="expected a list of texts"):
        predictor.predict("Bob")


def test_generation_is_the_likeliest_by_score(predictor: Predictor) -> None:
    """Greedy text, made step by step, against the scores of the whole text at once."""
    text = "Ann" + predictor.predict(["Ann"], length=25, temperature=0)[0]["text"]
    scores = predictor.score(text)
    for place in range(3, len(text)):
        others = (predictor.score(text[:place] + other)[-1][1] for other in "abst .\n")
        assert scores[place][1] >= max(others) - 1e-5


def test_stop(predictor: Predictor) -> None:
    (answer,) = predictor.predict(["Ann saw"], length=100, stop=".\n")
    assert "." not in answer["text"]
    assert answer["text"].endswith(("boat", "house", "garden"))
    assert "".join(predictor.generate("Ann saw", length=100, stop=".\n")) == answer["text"]


def test_text_appears_as_it_is_made(predictor: Predictor) -> None:
    parts = list(predictor.stream(PredictOptions.model_validate({"prompt": "Bob saw", "length": 12})))
    assert [str(part) for part in parts[:2]] == ["Bob saw", " "]
    assert all(isinstance(part, Part) for part in parts[:-1])
    assert len(parts) == 14


def test_the_command_line(
    model: Path, corpus: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--length", "30", "--threads", "1", "--seed", "5"]
    text = "".join(predictor.generate("Bob saw", length=30, seed=5))
    assert penstock("predict", model, "--prompt", "Bob saw", *flags).stdout == f"Bob saw{text}\n"
    answers = predictor.predict(["Bob saw", "Ann"], length=30, seed=5)
    written = tmp_path / "answers.jsonl"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Bob saw\nAnn\n")))
    assert main([*map(str, ("predict", model, *flags, "--output", written))]) == 0
    assert [json.loads(line) for line in written.read_text().splitlines()] == answers
    assert main([*map(str, ("predict", model, "Bob saw", "Ann", *flags, "--output", written))]) == 0
    assert [json.loads(line) for line in written.read_text().splitlines()] == answers
    (tmp_path / "beginnings.txt").write_text("Bob saw\nAnn\n")
    words = ("predict", model, "--input", tmp_path / "beginnings.txt", *flags, "--output", written)
    assert main([*map(str, words)]) == 0
    assert [json.loads(line) for line in written.read_text().splitlines()] == answers
    words = ("predict", model, "--score", corpus / "test.txt", "--threads", "1", "--output", written)
    assert main([*map(str, words)]) == 0
    scores = [json.loads(line) for line in written.read_text().splitlines()]
    assert "".join(score["token"] for score in scores) == (corpus / "test.txt").read_text()
    found = lm.evaluate(model, corpus / "test.txt", threads=1)["metrics"]["nats"]
    assert -sum(score["log_probability"] for score in scores) / len(scores) == pytest.approx(found, rel=1e-3)


def test_evaluate_prints(model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(model), str(corpus / "*.txt"), "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    for name in ("perplexity", "nats", "bits per character"):
        assert name in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "MODEL", "Ann", "--prompt", "Bob"], "INPUT and --prompt: give only one of them"),
        (["predict", "MODEL", "--top-p", "0"], "--top-p: expected a number above 0 and at most 1, got '0'"),
        (["predict", "MODEL", "--temperature", "-1"], "--temperature: expected a number at least 0"),
        (["predict", "MODEL", "--score", "none.txt"], "none.txt: no such file"),
        (["evaluate", "MODEL", "none.txt"], "none.txt: no such file"),
        (["train", "lm", "none.txt", "--output", "out"], "none.txt: no such file"),
        (["train", "lm", "x.txt", "--output", "out", "--bidirectional"], "unknown argument --bidirectional"),
        (["evaluate", "MODEL", "x.txt", "--cache-lambda", "1"], "--cache-lambda: expected a number above 0"),
        (["evaluate", "MODEL", "x.txt", "--dynamic", "fast"], "--dynamic: expected a number at least 0"),
        (
            ["train", "lm", "x.txt", "--output", "out", "--adaptive-softmax", "20,5"],
            "adaptive_softmax: expected increasing whole numbers from 3 on, got 20,5",
        ),
        (
            ["train", "lm", "x.txt", "--output", "out", "--adaptive-softmax", "20", "--tie"],
            "adaptive_softmax: its matrices cannot be that of the embedding; leave out tie",
        ),
        (
            ["train", "lm", "x.txt", "--output", "out", "--adaptive-softmax", "20", "--level", "byte"],
            "adaptive_softmax: bytes are few",
        ),
        (
            ["train", "lm", "x.txt", "--output", "out", "--adaptive-softmax", "5,9", "--hidden-size", "15"],
            "adaptive_softmax: 2 cut-offs need a last layer of 16 numbers or more, got 15",
        ),
        (
            ["train", "lm", "x.txt", "--output", "out", "--test", "y.txt", "--test-fraction", "0.1"],
            "test_fraction=0.1: give either test=y.txt or this, not both",
        ),
        (
            ["train", "lm", "x.txt", "--output", "out", "--dev-fraction", "0.6", "--test-fraction", "0.4"],
            "expected less than 1 together, got 0.6 and 0.4",
        ),
    ],
)
def test_mistakes_are_said(
    model: Path, tmp_path: Path, words: list[str], message: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([str(model) if word == "MODEL" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_damaged_folder(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "damaged")
    (folder / "vocabulary.json").write_text('["<pad>", "<unk>", "a"]')
    with pytest.raises(InputError, match="expected a vocabulary of the"):
        lm.load(folder)
    (folder / "vocabulary.json").write_text("[1]")
    with pytest.raises(InputError, match=r"vocabulary\.json: expected a JSON list of strings"):
        lm.load(folder)


MIXED = "她看见了 船。\n" + sentences(60, seed=1)
CHINESE = "她 看见 了 船 。\n他 坐 在 船 里 ， 她 也 在 船 里 。\n" * 20


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (MIXED, {"level": "word", "cell": "gru", "layers": 2, "tie": True}),
        (MIXED, {"level": "byte", "cell": "rnn"}),
        (MIXED, {"level": "bpe", "vocabulary_size": 270, "weight_dropout": 0.2, "input_dropout": 0.1}),
        (MIXED, {"level": "char", "adaptive_softmax": [5, 12], "hidden_size": 16}),
        (CHINESE.replace(" ", ""), {"level": "char"}),
        (CHINESE.replace(" ", ""), {"level": "byte"}),
        (CHINESE.replace(" ", ""), {"level": "bpe", "vocabulary_size": 270}),
        (CHINESE, {"level": "word", "adaptive_softmax": [6]}),
    ],
    ids=lambda value: value["level"] if isinstance(value, dict) else "mixed" if value is MIXED else "chinese",
)
def test_every_level_from_a_file_to_text(
    tmp_path: Path, write: Write, text: str, options: dict[str, Any]
) -> None:
    data = write("text.txt", text)
    report = fit(LmJob, small_config(data, tmp_path / "out", epochs=1, **options))
    assert set(report.metrics["dev"]) == {"loss", "perplexity", "nats", "bits_per_character"}
    predictor = lm.load(tmp_path / "out", threads=1)
    beginning = "她看见了" if text is not CHINESE else "她 看见 了"
    (answer,) = predictor.predict([beginning], length=8)
    assert answer["text"] == "".join(predictor.generate(beginning, length=8))
    assert answer["text"]
    scores = predictor.score(text)
    if options["level"] == "char":
        assert "".join(token for token, _ in scores) == text
    nats = -sum(value for _, value in scores)
    figures = lm.evaluate(tmp_path / "out", data, threads=1)["metrics"]
    assert nats / len(text) / math.log(2) == pytest.approx(figures["bits_per_character"], rel=1e-2)
    for adapting in ({"cache": 50}, {"dynamic": 0.05}):
        changed = lm.evaluate(tmp_path / "out", data, threads=1, **adapting)["metrics"]
        assert changed["nats"] != figures["nats"]
        assert math.isfinite(changed["perplexity"])


def test_tables_from_training_to_evaluation(tmp_path: Path, write: Write, corpus: Path) -> None:
    lines = sentences(60, seed=1).splitlines()
    table = write("tales.csv", "id,tale\n" + "".join(f"{i},{line}\n" for i, line in enumerate(lines)))
    same = write("same.txt", "".join(f"{line}\n" for line in lines))
    other = write("other.jsonl", "".join(json.dumps({"words": line}) + "\n" for line in lines))
    folder = tmp_path / "out"
    fit(LmJob, small_config(table, folder, text="tale", test=same, epochs=1))
    nats = lm.evaluate(folder, same, threads=1)["metrics"]["nats"]
    assert lm.evaluate(folder, table, threads=1)["metrics"]["nats"] == nats
    assert lm.evaluate(folder, other, threads=1, text="words")["metrics"]["nats"] == nats
    assert json.loads((folder / "metrics.json").read_text())["test"]["nats"] == pytest.approx(nats, abs=1e-6)
    with pytest.raises(InputError, match="no key 'tale'"):
        lm.evaluate(folder, other, threads=1)
    with pytest.raises(InputError, match="--text words: expected a table"):
        lm.evaluate(folder, same, threads=1, text="words")
    written = tmp_path / "scores.jsonl"
    words = ("predict", folder, "--score", other, "--text", "words", "--output", written, "--threads", "1")
    assert main([*map(str, words)]) == 0
    scores = [json.loads(line) for line in written.read_text().splitlines()]
    assert "".join(score["token"] for score in scores) == same.read_text()


# Resuming: the states go on too


def interrupted_at(step: int) -> type[LmJob]:
    """A job that gets Ctrl-C at the end of a step of training."""

    class Interrupting(LanguageModel):
        steps = 0

        def loss(self, outputs: Any, batch: Any) -> torch.Tensor:
            self.steps += self.training
            if self.training and self.steps == step:
                signal.raise_signal(signal.SIGINT)
            return super().loss(outputs, batch)

    class Job(LmJob):
        def __init__(self, config: Any, folder: Path) -> None:
            super().__init__(config, folder)
            self.model.__class__ = Interrupting

    return Job


@pytest.mark.parametrize(
    "chosen",
    [
        {"cell": "lstm", "average": 0.9},
        {
            "cell": "gru",
            "optimizer": "asgd",
            "learning_rate": 2.0,
            "adaptive_softmax": [5],
            "hidden_size": 12,
        },
    ],
    ids=lambda chosen: chosen["cell"],
)
def test_an_interrupted_and_resumed_run_equals_the_unbroken_one(
    tmp_path: Path, write: Write, chosen: dict[str, Any]
) -> None:
    data = write("text.txt", sentences(12, seed=1))
    options = {"layers": 2, "weight_dropout": 0.1, "epochs": 2, **chosen}
    unbroken = fit(LmJob, small_config(data, tmp_path / "whole", **options))
    output = tmp_path / "resumed"
    stopped = fit(interrupted_at(5), small_config(data, output, **options))
    assert (stopped.interrupted, stopped.epochs) == (True, 0)
    carried = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)["carried"]
    assert len(carried) == 1
    assert len(carried[0]) == 2
    resumed = fit(LmJob, small_config(data, output, resume=True, **options))
    assert resumed.metrics == unbroken.metrics
    weights = (output / "model.safetensors").read_bytes()
    assert weights == (tmp_path / "whole" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_measure_as_one(corpus: Path, tmp_path: Path) -> None:
    words = ("train", "lm", corpus / "test.txt", "--dev", corpus / "train.txt", "--output", tmp_path / "out")
    rare = ("--adaptive-softmax", "4,16")  # clusters that are not in every batch of every process
    assert main([*map(str, (*words, *SMALL, *rare, "--processes", "2", "--epochs", "1"))]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["dev"]
    alone = lm.evaluate(tmp_path / "out", corpus / "train.txt", threads=1)["metrics"]
    assert metrics["nats"] == pytest.approx(alone["nats"], rel=1e-3)

"""The whole way: train, predict and evaluate as real processes on real files."""

import gzip
import json
import shutil

import pytest

import penstock as package
from penstock.cli import main
from penstock.errors import InputError
from penstock.tasks import tag
from penstock.tasks.tag.config import Config, PredictOptions
from tests.tasks.tag.language import SMALL, penstock

CONLLU = """\
# text = Anna sees the dog
1-2\tAnna sees\t_\t_\t_\t_\t_\t_\t_\t_
1\tAnna\tAnna\t_\t_\t_\t2\tnsubj\t_\t_
2\tsees\tsee\t_\t_\t_\t0\troot\t_\tSpaceAfter=No
2.1\tsees\tsee\tVERB\t_\t_\t_\t_\t_\t_

# the end
1\tOslo\tOslo\t_\t_\t_\t0\troot\t_\t_
"""


def test_learns_and_reports(model, corpus):
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics["test"]["f1"] > 0.95
    assert metrics["test"]["accuracy"] > 0.95
    figures = tag.evaluate(model, corpus / "test.tsv", threads=1)
    for name in ("f1", "precision", "recall", "accuracy"):
        assert figures["metrics"][name] == pytest.approx(metrics["test"][name], abs=1e-6)
    assert set(figures["labels"]) == {"person", "place"}
    assert "confusion" not in figures


def test_predict_in_python(model):
    predictor = package.load(model, threads=1)
    assert predictor.labels == ["B-person", "B-place", "I-place", "O"]
    first, empty, second = predictor.predict(["Auiae sees the dog", [], ["in", "New", "York"]])
    assert first["tokens"] == ["Auiae", "sees", "the", "dog"]
    assert first["tags"] == ["B-person", "O", "O", "O"]
    assert all(0.5 < probability <= 1 for probability in first["probabilities"])
    assert empty == {"tokens": [], "tags": [], "probabilities": []}
    assert second["tags"] == ["O", "B-place", "I-place"]
    assert predictor.predict([]) == []
    with pytest.raises(TypeError, match="expected a list of sentences"):
        predictor.predict("Anna sees")


def test_order_is_kept_over_many_sentences_of_differing_length(model):
    predictor = package.load(model, threads=1, batch_tokens=64)
    inputs = [["the", "dog"] * (1 + i % 7) + ["in", "Oslo"] * (i % 3) for i in range(1100)]
    answers = predictor.predict(inputs)
    assert [answer["tokens"] for answer in answers] == inputs
    for tokens, answer in zip(inputs, answers, strict=True):
        assert answer["tags"] == ["B-place" if token == "Oslo" else "O" for token in tokens]


def test_predict_lines_from_standard_input(model):
    result = penstock("predict", model, "--threads", "1", text="Beeee sees\n\nin Oslo\n")
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["tags"] for answer in answers] == [["B-person", "O"], [], ["O", "B-place"]]


def test_column_file_comes_back_with_its_labels(model, corpus, write):
    """Filling in what it predicts perfectly gives the very file back, also when the labels were wrong."""
    path = corpus / "dev.tsv"
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics["dev"]["accuracy"] == 1.0, "the test below needs a perfect tagger"
    lines = path.read_text().splitlines()
    blinded = write("blinded.tsv", "".join(line.split("\t")[0] + "\tO\n" if line else "\n" for line in lines))
    output = blinded.with_name("filled.tsv")
    files = [model, "--input", blinded, "--output", output]
    assert main(["predict", *map(str, files), "--format", "same"]) == 0
    assert output.read_text() == path.read_text()


def test_conllu_keeps_comments_ranges_and_empty_nodes(model, write):
    for name in ("text.conllu", "text.conllu.gz"):
        path = write(name, CONLLU)
        if name.endswith("gz"):
            path.write_bytes(gzip.compress(CONLLU.encode()))
        result = list(stream(model, input=path, format="same"))
        expected = CONLLU.replace("Anna\tAnna\t_", "Anna\tAnna\tB-person")
        expected = expected.replace("see\t_", "see\tO").replace("Oslo\tOslo\t_", "Oslo\tOslo\tB-place")
        assert "".join(text + "\n" for text in result) == expected


def test_untagged_columns_and_lines(model, write):
    tokens = write("tokens.tsv", "in\nOslo\n\nthe\n")
    assert [json.loads(line)["tags"] for line in stream(model, input=tokens)] == [["O", "B-place"], ["O"]]
    lines = write("lines.txt", "in Oslo\nthe\n")
    assert [json.loads(line)["tags"] for line in stream(model, input=lines)] == [["O", "B-place"], ["O"]]
    same = "\n".join(stream(model, input=lines, format="same"))
    assert same == "in\tO\nOslo\tB-place\n\nthe\tO\n"


def stream(model, **options):
    return package.load(model, threads=1).stream(PredictOptions(**options))


def test_evaluate_prints_and_writes(model, corpus, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = ["evaluate", model, corpus / "test.tsv", "--json", file, "--threads", "1"]
    assert main([*map(str, arguments)]) == 0
    shown = capsys.readouterr().out
    assert "person" in shown
    assert "precision" in shown
    assert json.loads(file.read_text())["metrics"]["f1"] > 0.95


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the\tO\nOslo\tB-river\n", "line 2: unknown label 'B-river'; expected one of 'B-person'"),
        ("the\tO\nOslo\n", "line 2: expected 2 columns"),
        ("", "the file is empty"),
        ("a\tO\nb\t\n", "line 2: "),
    ],
)
def test_mistakes_in_a_file_to_evaluate(model, write, text, message):
    path = write("gold.tsv", text)
    with pytest.raises(InputError) as error:
        tag.evaluate(model, path, threads=1)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_mistake_on_the_command_line_exits_with_2(model, write, capsys):
    gold = write("gold.tsv", "the\tO\nOslo\tB-river\n")
    assert main(["evaluate", str(model), str(gold)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("penstock: error: ")
    assert "gold.tsv, line 2: unknown label 'B-river'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("words.json", '["<pad>", "<unk>", "a"]', r"words\.json: expected the words of the model"),
        ("labels.json", '["O", "B-x"]', r"labels\.json: expected the labels of the model"),
        ("characters.json", "[1]", r"characters\.json: expected a JSON list of strings"),
        ("words.json", None, r"words\.json: no such file"),
        ("model.safetensors", "", r"model\.safetensors: "),
    ],
)
def test_damaged_folder(model, tmp_path, name, text, message):
    folder = tmp_path / "damaged"
    shutil.copytree(model, folder)
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(InputError, match=message):
        tag.load(folder)


def test_parts_of_speech_without_spans(write, tmp_path):
    """Labels that stand for themselves: softmax, accuracy, a confusion matrix; trained from Python."""
    words = enumerate((("the", "DET"), ("dog", "NOUN"), ("runs", "VERB")), 1)
    sentence = "".join(f"{i}\t{word}\t_\t{tag}" + 6 * "\t_" + "\n" for i, (word, tag) in words) + "\n"
    data = write("train.conllu", sentence * 60)
    sizes = {"embedding_size": 8, "character_hidden_size": 4, "hidden_size": 8, "threads": 1}
    options = {"data": data, "output": tmp_path / "out", "epochs": 4, "learning_rate": 0.02, **sizes}
    report = tag.train(Config.model_validate(options))
    assert report.metrics["dev"]["accuracy"] == 1.0
    figures = tag.evaluate(tmp_path / "out", data, threads=1)
    assert figures["confusion"] == [[60, 0, 0], [0, 60, 0], [0, 0, 60]]
    assert list(figures["labels"]) == ["DET", "NOUN", "VERB"]


@pytest.mark.slow
def test_two_processes_measure_as_one(corpus, tmp_path):
    files = [corpus / "train.tsv", "--dev", corpus / "dev.tsv", "--output", tmp_path / "out"]
    result = penstock("train", "tag", *files, *SMALL, "--processes", "2", "--epochs", "2")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["dev"]
    alone = tag.evaluate(tmp_path / "out", corpus / "dev.tsv", threads=1)["metrics"]
    for name in ("f1", "accuracy"):
        assert metrics[name] == pytest.approx(alone[name], abs=1e-6)

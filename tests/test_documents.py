"""What the documents say can be done, done: their commands and examples run as they stand there."""

import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from penstock import tasks
from penstock.cli import main
from penstock.cli.options import flag
from penstock.search.options import SearchOptions

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# What is trained here is trained for a moment: that a command works is the question, not how well it learns.
BRIEFLY = ["--epochs", "1", "--threads", "1"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(document: Path, language: str = r"\w*") -> list[str]:
    """The fenced code blocks of a Markdown document, of one language or of all."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands(document: Path) -> list[list[str]]:
    """The words of every `penstock` command in a document's shell blocks."""
    lines = "\n".join(blocks(document, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("penstock ")]


def test_both_readmes_show_the_same_code() -> None:
    assert blocks(ROOT / "README.zh-CN.md") == blocks(ROOT / "README.md")


# Every command, also those that take too long to run


def combined(*options: type[BaseModel]) -> type[BaseModel]:
    """One class with the fields of several."""
    return type("Combined", options, {})


def option_classes(words: list[str]) -> list[type[BaseModel]]:
    """The options that a documented command may have; of predict and evaluate, those of any task."""
    match words:
        case ["penstock", "train", task, *_] if task in tasks.TASKS:
            return [tasks.get_config(task).Config]
        case ["penstock", "search", task, *_] if task in tasks.TASKS:
            return [combined(tasks.get_config(task).Config, SearchOptions)]
        case ["penstock", "evaluate", *_]:
            return [tasks.get_config(task).EvaluateOptions for task in tasks.TASKS]
        case ["penstock", "predict", *_]:
            return [tasks.get_config(task).PredictOptions for task in tasks.TASKS]
    raise AssertionError(f"no such command: {shlex.join(words)}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_commands_exist(document: Path) -> None:
    for words in commands(document):
        used = {word for word in words if word.startswith("--")} - {"--config", "--search"}
        known = [
            {flag(name, field) for name, field in options.model_fields.items()}
            for options in option_classes(words)
        ]
        assert any(used <= flags for flags in known), shlex.join(words)


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=relative)
def test_shipped_configuration_is_valid_where_it_is_used(config: Path) -> None:
    uses = [words for document in DOCUMENTS for words in commands(document) if relative(config) in words]
    assert uses, "no document says what it is for"
    for words in uses:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        (options,) = option_classes(words)
        options.model_validate({"data": "train.csv", "output": "model", **values})


# The user's documents, from beginning to end


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with small files under the names that the documents use."""
    monkeypatch.chdir(tmp_path)
    chance = random.Random(0)
    moods = {"good": ["splendid", "lovely", "moving"], "bad": ["dull", "hollow", "endless"]}
    for name in ("reviews.csv", "more-reviews.csv", "new-reviews.csv"):
        rows = [(f"A {chance.choice(moods[mood])} film.", mood) for mood in moods for _ in range(30)]
        Path(name).write_text("review,mood\n" + "".join(f"{text},{mood}\n" for text, mood in rows), "utf-8")
    for name in ("gestures.csv", "new-gestures.csv"):
        steps = [
            f"{k},{second},{'up' if k % 2 else 'down'},{chance.random():.3f},{chance.random():.3f}\n"
            for k in range(40)
            for second in range(chance.randint(2, 6))
        ]
        Path(name).write_text("recording,second,gesture,x,y\n" + "".join(steps), "utf-8")
    for name in ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts"):
        series = [f"{chance.random():.3f},{chance.random():.3f}:{k % 3}\n" for k in range(30)]
        heading = "@problemName vowels\n@univariate true\n@classLabel true 0 1 2\n@data\n"
        Path(name).write_text(heading + "".join(series), "utf-8")
    for name in ("train", "dev", "test", "new", "news", "letters"):
        Path(f"{name}.conllu").write_text("".join(_conllu_sentence(chance) for _ in range(40)), "utf-8")
    Path("books").mkdir()
    for name in ("novel", "letters", "books/one", "books/two"):
        tales = [
            f"The {chance.choice(['sea', 'wind'])} was {chance.choice(['calm', 'wild'])}.\n"
            for _ in range(60)
        ]
        Path(f"{name}.txt").write_text("".join(tales), "utf-8")
    for name in ("power.csv", "more-power.csv"):
        hours = [f"2024-01-{1 + k // 24:02} {k % 24:02}:00,{chance.random()},{k % 24}\n" for k in range(480)]
        Path(name).write_text("time,hall,attic\n" + "".join(hours), "utf-8")
    days = [f"{shop},{k},{k % 7}\n" for shop in "ab" for k in range(100)]
    Path("sales.csv").write_text("shop,day,sold\n" + "".join(days), "utf-8")
    heading = "day,shop,sold,promo,price,visitors,kind\n"
    for name, first in (("shops.csv", 0), ("shops-now.csv", 100)):
        days = [
            f"{k},{shop},{k % 7 if k < first + 110 else ''},{'yes' if k % 3 else 'no'},{k % 5},{k % 4},city\n"
            for shop in "ab"
            for k in range(first, first + 117)
        ]
        Path(name).write_text(heading + "".join(days), "utf-8")
    Path("mood.yaml").write_text(blocks(ROOT / "docs/classify.md", "yaml")[0], "utf-8")
    Path("space.yaml").write_text(blocks(ROOT / "docs/search.md", "yaml")[0], "utf-8")
    return tmp_path


def _conllu_sentence(chance: random.Random) -> str:
    words = [("the", "DET", "DT"), (chance.choice(["man", "boat"]), "NOUN", "NN"), ("sails", "VERB", "VBZ")]
    lines = [
        f"{i}\t{word}\t_\t{upos}\t{xpos}\t_\t_\t_\t_\t_" for i, (word, upos, xpos) in enumerate(words, 1)
    ]
    return "\n".join(lines) + "\n\n"


def follow(words: list[str]) -> None:
    """Run one command, a new training only briefly and in place of what the same output held."""
    if words[1] == "train" and "--resume" not in words:
        shutil.rmtree(words[words.index("--output") + 1], ignore_errors=True)
        words = [*words, *BRIEFLY, "--hidden-size", "4"]
    if words[1] == "search":
        words = [*words, *BRIEFLY, "--trials", "1"]
    assert main(words[1:]) == 0, shlex.join(words)


def brief_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `BRIEFLY` does for commands, for trainings started in Python."""
    for task in tasks.TASKS:
        config = tasks.get_config(task)
        brief: Callable[..., BaseModel] = config.Config
        monkeypatch.setattr(
            config,
            "Config",
            lambda brief=brief, **options: brief(epochs=1, hidden_size=4, threads=1, **options),
        )


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        *(f"docs/{page}.md" for page in ("classify", "tag", "lm", "forecast", "search")),
    ],
)
@pytest.mark.usefixtures("desk")
def test_the_document_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(ROOT / name):
        follow(words)
    brief_training(monkeypatch)
    names: dict[str, object] = {}
    for block in blocks(ROOT / name, "python"):
        if "classify.train(" in block:
            shutil.rmtree("mood")
        exec(compile(block, name, "exec"), names)


@pytest.mark.usefixtures("desk")
def test_the_estimators_of_the_document_work() -> None:
    code = "\n".join(blocks(ROOT / "docs/sklearn.md", "python"))
    exec(compile(code, "docs/sklearn.md", "exec"), {})
    assert Path("mood-estimator/config.json").is_file()


@pytest.mark.parametrize("name", ["docs/accelerate.md", "docs/layers.md"])
def test_examples_print_what_they_say(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(blocks(ROOT / name, "python"))
    exec(compile(code, name, "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.+)$", code, re.M)

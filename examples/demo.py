"""`make demo`: a tagger for Python source, trained on this machine's own standard library.

Python's parser can tell a parameter from a local variable, but it needs a whole, valid file for it. The model
sees nothing but tokens and must remember: that a name is a parameter was said in the `def` line, perhaps two
hundred tokens ago. So it also reads what the parser refuses: code that somebody is still typing.

Everything is written to the folder given as the argument (default: demo).
"""

import ast
import shlex
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from python_functions import NAMES, PLAIN, Function, read_functions, read_tokens, write_data
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import penstock

TOKENS = {"test": 40_000, "dev": 40_000, "train": 400_000}
COLORS = {
    "parameter": "bright_blue",
    "local": "bright_green",
    "global": "bright_red",
    "builtin": "magenta",
    "argument": "yellow",
    "method": "bright_cyan",
    "attribute": "cyan",
    "definition": "bold",
    "import": "red",
}

# Written for this demo and not finished: a bracket is open, so the parser refuses all of it.
UNFINISHED = """\
def read_scores(path, names=None, *, limit=100):
    scores = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            name, value = line.split(",")
            if names is None or name in names:
                scores[name] = float(value)
            if len(scores) >= limit:
                raise TooMany(path, line=number)
    return sorted(scores.items(), key="""
COMPLETION = "None)\n"

# Small batches learn most in two passes, and they keep one core busy, not two.
OPTIONS = "--epochs 2 --batch-tokens 1024 --threads 1 --layers 2 --learning-rate 0.003 --average 0.99"
DROPOUT = "--dropout 0.1 --embedding-dropout 0.1 --word-dropout 0.3"

NEXT = """\
The model        {folder}/model             weights, vocabularies, configuration, metrics
What it is       {folder}/model/README.md
Training curve   {folder}/model/curves.png
The data         {folder}/data              one token and its label a line, as your own would be

Next, with `source .venv/bin/activate`:
    penstock evaluate {folder}/model {folder}/data/test.tsv
    penstock train tag --help
and README.md for the layers, docs/ for everything else."""

Tagger = Callable[[list[list[str]]], list[list[str]]]  # token lists to label lists

console = Console(highlight=False)


def run(*arguments: str) -> None:
    """Shows a `penstock` command and runs it; ends the demo if it fails."""
    console.print(f"[bold]$ penstock {shlex.join(arguments)}[/bold]\n", soft_wrap=True)
    command = [str(Path(sys.executable).with_name("penstock")), *arguments]
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def frequent_labels(functions: Iterable[Function]) -> dict[str, str]:
    """Each token's most frequent label; for any other token, the one most frequent among tokens seen once."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for function in functions:
        for token, label in function:
            counts[token][label] += 1
    once = Counter(label for counter in counts.values() if counter.total() == 1 for label in counter)
    unseen = once.most_common(1)[0][0]
    return defaultdict(lambda: unseen, {token: counts[token].most_common(1)[0][0] for token in counts})


def accuracy(found: list[list[str]], functions: list[Function], names_only: bool) -> float:
    """Share of tokens (or of those tokens that are names) with the right label, in per cent."""
    right = [
        label == true
        for labels, function in zip(found, functions, strict=True)
        for label, (_, true) in zip(labels, function, strict=True)
        if not names_only or true in NAMES
    ]
    return 100 * sum(right) / len(right)


def show_accuracy(tag: Tagger, parts: dict[str, list[Function]]) -> None:
    """Compares the model on the test files with a look-up of each token's usual label."""
    test = parts["test"]
    texts = [[token for token, _ in function] for function in test]
    usual = frequent_labels(parts["train"])
    table = Table("right on files it never saw", "all tokens", "names", box=box.SIMPLE_HEAD)
    for title, found in (
        ("each token's most frequent label", [[usual[token] for token in function] for function in texts]),
        ("the model, which reads the context", tag(texts)),
    ):
        table.add_row(title, *(f"{accuracy(found, test, names_only):.1f} %" for names_only in (False, True)))
    console.print(table)


def show_snippet(tag: Tagger) -> None:
    """Tags the unfinished function; under each line stands what the model says of its names."""
    lines = UNFINISHED.splitlines()
    words = [
        (text, token)
        for text, token in read_tokens(UNFINISHED + COMPLETION)
        if token.start < (len(lines), len(lines[-1]))
    ]
    (truth,) = read_functions(UNFINISHED + COMPLETION)
    (labels,) = tag([[text for text, _ in words]])

    for number, line in enumerate(lines, start=1):
        code = Text("  " + line)
        notes = Text("        ")
        for (text, token), label, (_, true) in zip(words, labels, truth, strict=False):
            if token.start[0] != number:
                continue
            code.stylize(COLORS.get(label, "bright_black"), token.start[1] + 2, token.end[1] + 2)
            if label != true:
                notes.append(f"{text} {label} (wrong: {true})  ", "reverse")
            elif label not in PLAIN:
                notes.append(f"{text} ", "dim").append(f"{label}  ", COLORS[label])
        console.print(code, notes, sep="\n", soft_wrap=True)
    right = [label == true for label, (_, true) in zip(labels, truth, strict=False) if true in NAMES]
    console.print(f"\n{sum(right)} of {len(right)} names right")


def main(folder: Path) -> None:
    started = time.monotonic()
    console.rule("[bold]1. Data: the functions of this machine's standard library")
    parts = write_data(folder / "data", TOKENS)
    for part, functions in parts.items():
        count = sum(map(len, functions))
        console.print(f"{folder}/data/{part}.tsv: {len(functions):,} functions, {count:,} tokens")
    console.print("\nOne token and its label a line:")
    console.print("\n".join(f"    {token:15} {label}" for token, label in parts["train"][0][:8]))

    console.rule("[bold]2. Training")
    data, model = folder / "data", folder / "model"
    files = [f"{data}/train.tsv", "--dev", f"{data}/dev.tsv", "--test", f"{data}/test.tsv"]
    run("train", "tag", *files, "--output", f"{model}", "--overwrite", *OPTIONS.split(), *DROPOUT.split())

    console.rule("[bold]3. What the context is worth")
    predictor = penstock.load(model)

    def tag(texts: list[list[str]]) -> list[list[str]]:
        return [found["tags"] for found in predictor.predict(texts)]

    show_accuracy(tag, parts)

    console.rule("[bold]4. Code that somebody is still typing")
    try:
        ast.parse(UNFINISHED)
    except SyntaxError as error:
        console.print(f"Python's parser says: {error.msg}. The model says:\n")
    show_snippet(tag)

    console.rule(f"[bold]Done in {time.monotonic() - started:.0f} seconds")
    console.print(NEXT.format(folder=folder), soft_wrap=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))

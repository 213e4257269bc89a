"""The project as a whole: what is light to import, and whether its documents say what the code does."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from penstock import tasks
from penstock.cli import main

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DOCUMENTS = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
HEAVY = ("torch", "lightning", "pytorch_lightning")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced code blocks of a Markdown document that are marked with one of `languages` (or any)."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", document.read_text(encoding="utf-8"), re.M | re.S)
    return [text for language, text in found if not languages or language in languages]


def commands(document: Path) -> list[list[str]]:
    """The words of every `penstock` command in a document's shell blocks, without what a pipe adds."""
    lines = "\n".join(blocks(document, "bash", "sh", "console")).replace("\\\n", " ").splitlines()
    shell = (line.removeprefix("$ ").strip() for line in lines)
    return [
        shlex.split(line.split(" | ")[0], comments=True) for line in shell if line.startswith("penstock ")
    ]


@cache
def project_files() -> list[Path]:
    """Every file that belongs to the project, as git sees it."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of the project's files")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


# What is light


@pytest.mark.parametrize(
    "statement",
    [
        "import penstock",
        "from penstock.cli import main; main(['--help'])",
        "import penstock.training.config",
        *(f"import penstock.tasks.{task}.config" for task in tasks.TASKS),
    ],
)
def test_imports_neither_torch_nor_lightning(statement: str) -> None:
    probe = f"import sys; {statement}; print(sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_imports_go_one_way() -> None:
    contract = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(contract, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# What is written


def test_changelog_has_this_version() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert newest[1] == pyproject["project"]["version"]


def test_both_readmes_show_the_same_code() -> None:
    assert blocks(ROOT / "README.zh-CN.md") == blocks(ROOT / "README.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_commands_exist(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(document):
        task = [words[2]] if words[1] == "train" and words[2] in tasks.TASKS else []
        assert main([words[1], *task, "--help"]) == 0, words
        known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        unknown = {flag.split("=")[0] for flag in words if flag.startswith("--")} - known
        assert not unknown, f"{' '.join(words)}: {unknown} in no help"


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_python_examples_are_python(document: Path) -> None:
    for block in blocks(document, "python"):
        ast.parse(block)


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_config_is_valid(path: Path) -> None:
    task = path.name.split("-")[0]
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    required = {"data": "train.csv", "output": "model"}
    tasks.get_config(task).Config.model_validate({**required, **values})


def test_no_file_names_a_place_of_one_machine() -> None:
    # Written so that these lines do not match themselves.
    place = re.compile(
        r"(?<![\w.])/(work|root|home|tmp|opt)/\w|pypi[.]org|python" + "hosted|registry[.]npmjs"
    )
    found = []
    for path in project_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture, or data in another encoding on purpose
        found += [f"{relative(path)}:{number}" for number, line in enumerate(lines, 1) if place.search(line)]
    assert found == []


def test_every_cell_has_its_three_files() -> None:
    cells = {path.stem for path in (ROOT / "src/penstock/cells").glob("*.py")} - {"__init__", "base"}
    kernels = {path.stem for path in (ROOT / "csrc/cells").glob("*.hpp")} - {"cell"}
    proofs = {path.stem.removeprefix("test_") for path in (ROOT / "tests/cells").glob("test_*.py")} - {"base"}
    assert cells == kernels == proofs

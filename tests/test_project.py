"""The project as a whole: what is light to import, what is declared, and where things lie."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from penstock import _native, tasks

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "lightning", "pytorch_lightning")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """[project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    "statement",
    [
        "import penstock",
        "from penstock.cli import main; main(['--help'])",
        "import penstock.training.config",
        "import penstock.search, penstock.search.options, penstock.search.space",
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


def test_every_import_is_a_declared_dependency(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["train"] + extras["search"] + extras["sklearn"]
    names = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in lines}
    declared = names | {
        "yaml",
        "sklearn",
        "pydantic_core",
    }  # two by their names as modules, and half of pydantic
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"penstock"} <= declared


def test_every_cell_has_its_three_files() -> None:
    cells = {path.stem for path in (ROOT / "src/penstock/cells").glob("*.py")} - {"__init__", "base"}
    kernels = {path.stem for path in (ROOT / "csrc/cells").glob("*.hpp")} - {"cell"}
    proofs = {path.stem.removeprefix("test_") for path in (ROOT / "tests/cells").glob("test_*.py")} - {"base"}
    assert cells == kernels == proofs


def test_stub_has_the_names_of_the_kernels() -> None:
    stub = ast.parse((ROOT / "src/penstock/_native.pyi").read_text(encoding="utf-8"))
    declared = {
        node.name: [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
        for node in stub.body
        if isinstance(node, ast.FunctionDef)
    }
    compiled = {
        name: re.findall(r"[(,] ?(\w+): ", function.__nb_signature__[0][0])
        for name, function in vars(_native).items()
        if not name.startswith("_") and not isinstance(function, type)
    }
    assert declared == compiled
    declared_classes = {
        node.name: {part.name for part in node.body if isinstance(part, ast.FunctionDef)} - {"__init__"}
        for node in stub.body
        if isinstance(node, ast.ClassDef)
    }
    compiled_classes = {
        name: {part for part in vars(cls) if not part.startswith("_")}
        for name, cls in vars(_native).items()
        if isinstance(cls, type)
    }
    assert declared_classes == compiled_classes


def test_changelog_has_this_version(project: dict[str, Any]) -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert newest[1] == project["version"]


def test_no_file_names_a_place_of_one_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of the project's files")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # Written so that these lines do not match themselves.
    place = re.compile(
        r"(?<![\w.])/(work|root|home|tmp|opt)/\w|pypi[.]org|python" + "hosted|registry[.]npmjs"
    )
    found = []
    for path in (ROOT / name for name in names.split("\0") if name):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            continue  # deleted but not committed; a picture, or data in another encoding on purpose
        found += [f"{relative(path)}:{number}" for number, line in enumerate(lines, 1) if place.search(line)]
    assert found == []

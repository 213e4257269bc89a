"""`penstock search TASK DATA --output DIR --trials N`: train with many settings, and keep the best model."""

from importlib.util import find_spec
from pathlib import Path

from penstock import tasks
from penstock.cli import table
from penstock.cli.options import Parser, add_options, flag, read_yaml, resolve
from penstock.cli.train import check_task
from penstock.errors import InputError

HELP = """\
usage: penstock search TASK DATA --output DIR [--trials N] [--search FILE] [options]

Train a model on your own file with many settings, and keep the best one in DIR/best.
The same command goes on with a search that was interrupted.

tasks:
{tasks}

`penstock search TASK --help` shows the options of a task.
"""

# What options of a training mean in a search; None for one that means nothing there.
_OTHERWISE = {
    "output": "folder of the search; the best model is in OUTPUT/best",
    "overwrite": "remove the search that OUTPUT holds, and begin anew",
    "resume": None,
    "seed": "seed of weights, shuffling, dropout and data splits, and of the values that are tried",
}


def run(arguments: list[str]) -> int:
    """Search as the arguments say; 0 if the best model was saved."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(tasks=table(tasks.TASKS)), end="")
        return 0
    task, *rest = arguments
    check_task(task, "search")

    from penstock.search.options import SearchOptions

    model = tasks.get_config(task).Config
    prog = f"penstock search {task}"
    parser = Parser(
        prog=prog, usage=f"{prog} DATA --output DIR [options]", description=f"search: {tasks.TASKS[task]}"
    )
    parser.add_argument(
        "--search",
        type=Path,
        metavar="FILE",
        help="YAML file with the options to search; if not given, a few usual ones",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with any of the options below")
    add_options(parser, SearchOptions)
    add_options(parser, model, _OTHERWISE)
    flags = parser.values(rest)
    space_file, config_file = flags.pop("search"), flags.pop("config")
    own = {name: flags.pop(name) for name in SearchOptions.model_fields if name in flags}
    options = resolve(SearchOptions, own)
    config = resolve(model, flags, config_file)
    space = _space(space_file, config, flags) if space_file else None
    if find_spec("optuna") is None:
        raise InputError("penstock search needs Optuna: pip install 'penstock[search]'")

    from penstock.search import search

    return search(task, config, space, **options.model_dump()).exit_code


def _space(path: Path, config, flags: dict) -> dict:
    """The space in a file, whose options are not given as flags too."""
    from penstock.search.space import read_space

    entries = read_yaml(path, type(config))
    for name in entries:
        if name in flags:
            shown = flag(name, type(config).model_fields[name])
            raise InputError(f"{shown}: given as a flag and searched by {path}; leave one out")
    try:
        read_space(config, entries)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return entries

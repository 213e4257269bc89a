"""The arguments of the verbs that begin with the folder of a model: its task decides on the rest."""

from pathlib import Path
from types import ModuleType
from typing import Any

from penstock import tasks
from penstock.cli.options import Parser, add_options, resolve
from penstock.errors import InputError


def parse(verb: str, usage: str, arguments: list[str], options_name: str) -> tuple[Path, ModuleType, Any]:
    """The model's folder, the package of its task, and the task's options for the verb.

    Args:
        verb: as in `penstock VERB`.
        usage: what follows it.
        arguments: the folder first.
        options_name: the class in the task's `config` module.

    Raises:
        InputError: there is no model in the folder, or an argument is wrong.
    """
    from penstock.training.saved import read_model

    first, *rest = arguments
    if first.startswith("-"):
        raise InputError(f"the folder of the model comes first, got {first}; see penstock {verb} --help")
    folder = Path(first)
    task = read_model(folder).task
    if task not in tasks.TASKS:
        raise InputError(
            f"{folder / 'config.json'}: unknown task {task!r}, expected one of {', '.join(tasks.TASKS)}"
        )
    model = getattr(tasks.get_config(task), options_name)
    prog = f"penstock {verb}"
    parser = Parser(prog=prog, usage=f"{prog} {usage}", description=f"{folder}: {tasks.TASKS[task]}")
    add_options(parser, model)
    return folder, tasks.get(task), resolve(model, parser.values(rest))

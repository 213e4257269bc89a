"""`penstock train TASK DATA --output DIR`: train a model and say how good it is."""

from pathlib import Path

from penstock import tasks
from penstock.cli import table
from penstock.cli.options import Parser, add_options, resolve
from penstock.errors import InputError

HELP = """\
usage: penstock train TASK DATA --output DIR [options]

Train a model on your own file.

tasks:
{tasks}

`penstock train TASK --help` shows the options of a task.
"""


def run(arguments: list[str]) -> int:
    """Train as the arguments say; 0 if a model was saved."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(tasks=table(tasks.TASKS)), end="")
        return 0
    task, *rest = arguments
    check_task(task, "train")
    model = tasks.get_config(task).Config
    prog = f"penstock train {task}"
    parser = Parser(prog=prog, usage=f"{prog} DATA --output DIR [options]", description=tasks.TASKS[task])
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with any of the options below")
    add_options(parser, model)
    flags = parser.values(rest)
    file = flags.pop("config") or _stored_config(flags)
    report = tasks.get(task).train(resolve(model, flags, file))
    return report.exit_code


def check_task(task: str, verb: str) -> None:
    """Raise InputError if there is no such task."""
    if task not in tasks.TASKS:
        raise InputError(
            f"unknown task {task!r}, expected one of {', '.join(tasks.TASKS)}; see penstock {verb} --help"
        )


def _stored_config(flags: dict) -> Path | None:
    """The configuration a training that is resumed was started with, so that --output is all it takes."""
    from penstock.training.workspace import stored_config

    return stored_config(Path(flags["output"])) if flags.get("resume") and "output" in flags else None

"""`penstock predict DIR`: let a trained model answer for arguments, a file or standard input."""

from penstock.cli.model import parse

HELP = """\
usage: penstock predict DIR [INPUT ...] [options]

Let the model in the folder DIR answer for inputs given as arguments, with --input FILE, or on standard input,
and write one JSON object a line, in the order of the inputs. A model of series over time (penstock train
forecast) writes what comes next as csv.

`penstock predict DIR --help` shows the options of that model's task.
"""


def run(arguments: list[str]) -> int:
    """Predict as the arguments say."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    folder, task, options = parse("predict", "DIR [INPUT ...] [options]", arguments, "PredictOptions")
    from penstock.tasks.streams import write_lines

    predictor = task.load(folder, **options.model_dump(include={"device", "threads", "batch_tokens"}))
    write_lines(predictor.stream(options), options.output)
    return 0

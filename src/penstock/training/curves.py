"""The training curves as a picture."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from penstock.files import atomic_write

_BLUE, _ORANGE, _INK = "#2a6fbb", "#d9731a", "#333333"


def draw(path: Path, history: list[dict[str, float]], monitor: str, best_epoch: int, title: str) -> None:
    """Draw loss and dev metric over the epochs, the best epoch marked, into a PNG file.

    Args:
        path: the file.
        history: one dictionary an epoch, as `Keeper.history`; not empty.
        monitor: name of the metric, without "dev_".
        best_epoch: the one to mark.
        title: stands above the picture.
    """
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(9, 3.6), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=_INK, fontsize=11)
    loss, metric = figure.subplots(1, 2)

    style = {"marker": "o" if len(epochs) <= 40 else "", "markersize": 4}
    for key, name, colour in (("train_loss", "train", _BLUE), ("dev_loss", "dev", _ORANGE)):
        loss.plot(epochs, [entry[key] for entry in history], color=colour, label=name, **style)
    loss.legend(frameon=False, labelcolor=_INK)
    loss.set_title("loss", color=_INK, fontsize=10)

    name = monitor.replace("_", " ")
    scores = [entry[f"dev_{monitor}"] for entry in history]
    best = scores[epochs.index(best_epoch)]
    metric.plot(epochs, scores, color=_ORANGE, **style)
    metric.plot(best_epoch, best, "o", markersize=11, markerfacecolor="none", color=_INK)
    metric.set_title(f"dev {name}: best {best:.4f} in epoch {best_epoch}", color=_INK, fontsize=10)

    for axes in (loss, metric):
        axes.set_xlabel("epoch", color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e6e6e6")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")

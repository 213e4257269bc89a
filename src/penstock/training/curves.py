"""The training curves as a picture."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from penstock.files import atomic_write

_BLUE, _ORANGE, _INK = "#2a6fbb", "#d9731a", "#333333"


def draw(path: Path, history: list[dict[str, float]], monitor: str, title: str) -> None:
    """Draw loss and dev metric over the epochs, the best epoch marked, into a PNG file.

    Args:
        path: the file.
        history: one dictionary an epoch, as `Keeper.history`; not empty.
        monitor: name of the metric, without "dev_".
        title: stands above the picture.
    """
    epochs = [entry["epoch"] for entry in history]
    scores = [entry[f"dev_{monitor}"] for entry in history]
    best = scores.index(max(scores))
    figure = Figure(figsize=(9, 3.6), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=_INK, fontsize=11)
    loss, metric = figure.subplots(1, 2)

    for key, name, colour in (("train_loss", "train", _BLUE), ("dev_loss", "dev", _ORANGE)):
        loss.plot(
            epochs, [entry[key] for entry in history], color=colour, marker="o", markersize=4, label=name
        )
    loss.legend(frameon=False)
    loss.set_title("loss", color=_INK, fontsize=10)

    metric.plot(epochs, scores, color=_ORANGE, marker="o", markersize=4)
    metric.plot(epochs[best], scores[best], "o", markersize=11, markerfacecolor="none", color=_INK)
    metric.annotate(
        f"best {scores[best]:.4f}",
        (epochs[best], scores[best]),
        xytext=(0, -20),
        textcoords="offset points",
        ha="center",
        color=_INK,
        fontsize=9,
    )
    metric.margins(y=0.25)
    metric.set_title(f"dev {monitor}", color=_INK, fontsize=10)

    for axes in (loss, metric):
        axes.set_xlabel("epoch", color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e6e6e6")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")

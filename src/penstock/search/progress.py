"""What the terminal shows of a search: a table that grows, or a line a trial; the best trials at the end."""

from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from penstock.search.space import Value
from penstock.search.study import Study, Trial
from penstock.training.report import duration, make_table

_LAST = 12  # trials in the table while the search runs
_BEST = 10  # trials in the table at its end


class Progress:
    """Shows the trials of `study` on `console` while the block runs.

    Args:
        console: without a terminal, one plain line a trial.
        study: the trials.
        options: names of what is searched.
        total: trials of the whole search.
    """

    def __init__(self, console: Console, study: Study, options: list[str], total: int) -> None:
        self._console = console
        self._study = study
        self._options = options
        self._total = total
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self) -> None:
        """Show the trials as they are now."""
        if self._live.is_started:
            trials = self._study.trials
            best = self._study.best
            shown = trials[-_LAST:]
            if best and best not in shown:
                shown = [best, *shown]
            self._live.update(self._table(shown, f"trial {len(trials)} of {self._total}"), refresh=True)

    def ended(self, trial: Trial) -> None:
        """Show that a trial has ended."""
        self.update()
        if self._live.is_started:
            return
        name = self._study.monitor.replace("_", " ")
        parts = [
            f"trial {trial.number:>{len(str(self._total))}}/{self._total}",
            trial.state,
            f"dev {name} {_figure(trial)}",
            f"epochs {trial.epochs}",
            duration(trial.seconds),
            "  ".join(f"{name} {_shown(value)}" for name, value in trial.values.items()),
            "best" if trial == self._study.best else "",
            trial.note,
        ]
        self._console.print(Text("   ".join(part for part in parts if part)), soft_wrap=True)

    def show_best(self) -> None:
        """Print the best trials, the best one first."""
        ended = self._study.ended
        self._console.print(self._table(self._study.ranked()[:_BEST], ""))
        counts = Counter(trial.state for trial in ended)
        said = ", ".join(f"{count} {state}" for state, count in counts.items())
        self._console.print(f"  {len(ended)} of {self._total} trials: {said}", highlight=False)

    def _table(self, trials: list[Trial], caption: str) -> Table:
        name = self._study.monitor.replace("_", " ")
        heads = (option.replace("_", " ") for option in self._options)
        table = make_table(">trial", "", f">dev {name}", ">epochs", *heads)
        table.caption = caption
        best = self._study.best
        for trial in trials:
            table.add_row(
                str(trial.number),
                trial.state,
                _figure(trial),
                str(trial.epochs),
                *(_shown(trial.values.get(name)) for name in self._options),
                style="bold green" if trial == best else "",
            )
        return table


def _figure(trial: Trial) -> str:
    return "" if trial.figure is None else f"{trial.figure:.4f}"


def _shown(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

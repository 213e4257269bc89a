"""The table of what must be fast: every figure with its target, and whether it is reached."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A line of the table. A figure without a target is reported only."""

    name: str
    what: str
    unit: str = "x"
    mean: float | None = None
    """Target of the geometric mean over all lines."""
    worst: float | None = None
    """Target of every single line."""
    lower_is_better: bool = False

    def better(self, value: float, target: float) -> bool:
        return value <= target if self.lower_is_better else value >= target


_FIGURES = (
    Figure("training-lstm", "training, LSTM, against torch.nn", mean=2.0, worst=1.2),
    Figure("training-gru-rnn", "training, GRU and RNN, against torch.nn", mean=5.0, worst=2.0),
    Figure("training-ragged", "training, ragged, against PackedSequence", mean=6.0, worst=2.5),
    Figure("inference", "inference, against the best peer", mean=1.3, worst=1.0),
    Figure("step", "one step, hidden 64, Python layer", "us", worst=15.0, lower_is_better=True),
    Figure("step-numpy", "one step, NumPy call, against ONNX Runtime", worst=1.0),
    Figure("peak-forward", "share of the multiply-add peak, forward", "%", mean=85.0),
    Figure("peak-training", "share of the multiply-add peak, training", "%", mean=75.0),
    Figure("threads", "two threads over one, batch at least 32", mean=1.8),
    Figure("bf16-forward", "bf16 over our float32, forward", mean=1.6),
    Figure("bf16-training", "bf16 over our float32, training", mean=1.4),
    Figure("memory", "peak memory of a training step, over torch", worst=1.0, lower_is_better=True),
    Figure("tagger", "training step of a ragged tagger", mean=2.5),
    Figure("growth", "time a step over that at 100 steps", worst=1.15, lower_is_better=True),
    Figure("first-call", "first call on a new shape, against torch.nn"),
    Figure("training-keras", "training, against Keras on TensorFlow"),
    Figure("training-jax", "training, against JAX lax.scan"),
)
FIGURES = {figure.name: figure for figure in _FIGURES}


@dataclass
class Line:
    """One measurement: the value of a figure in one case, or what failed."""

    figure: str
    cell: str
    case: str
    """The shape, and what else tells this line from the others of the figure."""
    threads: int
    value: float | None = None
    """In the unit of the figure; None without a time of both sides, or with failures."""
    times: dict[str, float] = field(default_factory=dict)
    """Medians in ms by contestant (for memory: MiB)."""
    repeats: int = 0
    """The fewest timed calls of a contestant."""
    failures: dict[str, str] = field(default_factory=dict)
    """Results of ours that are wrong, with their errors."""
    notes: list[str] = field(default_factory=list)
    """Which peers are missing here, and why."""
    limit: float | None = None
    """What the value would be at the roofline of the machine; None for figures that have none."""

    @property
    def title(self) -> str:
        return f"{self.cell} {self.case}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True)
class Reached:
    """What the lines of a figure come to."""

    figure: Figure
    count: int
    mean: float | None = None
    worst: float | None = None
    worst_case: str = ""
    limit: float | None = None
    """Geometric mean of the limits; None if a line has none."""
    worst_limit: float | None = None
    """Of the worst line."""
    wrong: int = 0
    """Lines that failed the gate."""

    @property
    def verdict(self) -> str:
        """PASS, what is short, or why there is no figure; empty for one without a target."""
        if self.wrong:
            return f"FAIL: wrong results in {self.wrong} line{'s' * (self.wrong > 1)}"
        if self.mean is None or self.worst is None:
            return "not measured"
        if self.figure.mean is None and self.figure.worst is None:
            return ""
        short = [
            f"{name} {_shortfall(self.figure, value, target)}"
            for name, value, target in (
                ("mean", self.mean, self.figure.mean),
                ("worst", self.worst, self.figure.worst),
            )
            if target is not None and not self.figure.better(value, target)
        ]
        return "; ".join(short) or "PASS"


def _shortfall(figure: Figure, value: float, target: float) -> str:
    word = "over" if figure.lower_is_better else "short"
    part = abs(value / target - 1)
    return f"{word} by {part:.0%}" if part >= 0.01 else f"{word} by {part:.1%}"


def reached(figure: Figure, lines: Sequence[Line]) -> Reached:
    """Geometric mean and worst of the lines that belong to the figure, and their limits."""
    own = [line for line in lines if line.figure == figure.name]
    wrong = sum(bool(line.failures) for line in own)
    measured = [(line.value, line) for line in own if line.value is not None]
    if not measured:
        return Reached(figure, 0, wrong=wrong)
    values = [value for value, _ in measured]
    limits = [line.limit for _, line in measured if line.limit is not None]
    limit = statistics.geometric_mean(limits) if len(limits) == len(measured) else None
    pick = max if figure.lower_is_better else min
    worst, worst_line = pick(measured, key=lambda pair: pair[0])
    mean, title = statistics.geometric_mean(values), worst_line.title
    return Reached(figure, len(values), mean, worst, title, limit, worst_line.limit, wrong)

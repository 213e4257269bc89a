"""What is compared: the cells, the shapes, and the grids made of them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """One of our cells and the torch.nn class beside it."""

    name: str
    """As on the command line."""
    layer: str
    """The class, in penstock.nn and in torch.nn."""
    cell: str
    """The name in penstock.cells.CELLS."""
    gates: int
    options: dict[str, bool] = field(default_factory=dict)
    """What makes it ours: without options torch has this very cell, with them only its nearest relative."""

    @property
    def is_stock(self) -> bool:
        """Whether torch.nn has this cell."""
        return not self.options


_KINDS = (
    Kind("rnn", "RNN", "rnn_tanh", 1),
    Kind("lstm", "LSTM", "lstm", 4),
    Kind("gru", "GRU", "gru", 3),
    Kind("lstm-peephole", "LSTM", "lstm", 4, {"peephole": True}),
    Kind("gru-reset-before", "GRU", "gru_reset_before", 3, {"reset_after": False}),
)
KINDS = {kind.name: kind for kind in _KINDS}


@dataclass(frozen=True)
class Shape:
    """A batch and a stack of layers: B rows, T steps, D inputs, H hidden units, L layers."""

    B: int
    T: int
    D: int
    H: int
    L: int = 1
    bidirectional: bool = False
    proj: int = 0
    """Size of the projection of an LSTM, 0 for none."""
    ragged: bool = False
    """Lengths uniform between T/4 and T, for torch a PackedSequence."""
    strided: bool = False
    """The input is a (B, D, T) tensor seen as (T, B, D), as a spectrogram is."""
    new_length: bool = False
    """Another number of steps in every call, between T/2 and T."""

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def is_plain(self) -> bool:
        """One layer, one direction, nothing special: what every framework has."""
        return self == Shape(self.B, self.T, self.D, self.H, strided=self.strided)

    def fits(self, kind: Kind) -> bool:
        """Whether the cell comes in this shape: only an LSTM has a projection."""
        return not self.proj or kind.layer == "LSTM"

    @property
    def output(self) -> int:
        """Numbers that a layer gives a step in one direction."""
        return self.proj or self.H

    def flops(self, kind: Kind, pairs: float | None = None) -> float:
        """Floating point operations of the products in one forward pass.

        pairs: of a row and a step that it has, where they are not all B * T.
        """
        pairs = self.T * self.B if pairs is None else pairs
        inputs = self.D + (self.L - 1) * self.directions * self.output
        products = kind.gates * self.H * (inputs + self.L * self.output) + self.L * self.proj * self.H
        return 2 * pairs * self.directions * products

    def __str__(self) -> str:
        """Short enough for a column: B×T×D×H, then layers and what is special."""
        notes = [f"L{self.L}"] * (self.L > 1) + ["bi"] * self.bidirectional
        notes += [f"proj {self.proj}"] * (self.proj > 0) + ["ragged"] * self.ragged
        notes += ["strided"] * self.strided + ["new length"] * self.new_length
        return " ".join([f"{self.B}×{self.T}×{self.D}×{self.H}", *notes])


SHORT = (
    Shape(1, 1, 64, 64),
    Shape(1, 100, 64, 64),
    Shape(8, 1, 4, 256),
    Shape(32, 100, 128, 128),
    Shape(32, 100, 128, 128, ragged=True),
    Shape(32, 500, 32, 32),
    Shape(64, 50, 256, 256),
)
FULL = (
    Shape(1, 1, 64, 64),
    Shape(1, 1, 256, 256),
    Shape(1, 100, 64, 64),
    Shape(1, 100, 256, 256),
    Shape(32, 500, 32, 32),
    Shape(32, 100, 128, 128),
    Shape(64, 100, 256, 256),
    Shape(64, 50, 512, 512),
    Shape(128, 35, 650, 650),
    Shape(16, 200, 1024, 1024),
    # What real projects use.
    Shape(8, 1, 4, 256),
    Shape(4096, 1, 16, 32),
    Shape(1024, 97, 1, 128),
    Shape(32, 293, 60, 128, strided=True),
    Shape(32, 200, 128, 128, new_length=True),
    Shape(32, 100, 128, 128, proj=1),
    Shape(32, 100, 128, 128, proj=64),
    Shape(32, 100, 128, 128, L=2, bidirectional=True),
    # Ragged.
    Shape(32, 500, 32, 32, ragged=True),
    Shape(32, 100, 128, 128, ragged=True),
    Shape(64, 100, 256, 256, ragged=True),
    Shape(128, 35, 650, 650, ragged=True),
    Shape(32, 100, 128, 128, L=2, bidirectional=True, ragged=True),
)
GRIDS = {"short": SHORT, "full": FULL}

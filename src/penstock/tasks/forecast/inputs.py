"""What a forecaster reads of a step besides the value itself: covariates and calendar, categories as vectors.

Dimensions: B batch, L window, H horizon, K features known in advance, P features known up to now.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from penstock.training.job import Batch

Tables = Sequence[tuple[int, int]]
_REPLACED = 0.05  # share of categories that are trained as one never seen


class Inputs(nn.Module):
    """Turns the covariates of a batch of `data.collate` into features of every step.

    What is known of a whole series stands at each of its steps.

    Args:
        known: numbers of a step that are known in advance, those of the calendar among them.
        past: numbers of a step that are known up to now.
        static: numbers of a series.
        known_categories, past_categories, static_categories: of every categorical column, how many there are
            and the size of their vectors.

    Attributes:
        known_size: K.
        past_size: P.
    """

    def __init__(
        self,
        known: int = 0,
        past: int = 0,
        static: int = 0,
        known_categories: Tables = (),
        past_categories: Tables = (),
        static_categories: Tables = (),
    ) -> None:
        super().__init__()
        self.known = CategoryEmbeddings(known_categories)
        self.past = CategoryEmbeddings(past_categories)
        self.static = CategoryEmbeddings(static_categories)
        self.known_size = known + self.known.size + static + self.static.size
        self.past_size = past + self.past.size

    def forward(self, batch: Batch) -> Batch:
        """The batch with "features" (B, L, K + P) of the window and "coming" (B, H, K), if there are any."""
        if not self.known_size + self.past_size:
            return batch
        steps = batch["known_numbers"].shape[1]
        static = torch.cat([batch["static_numbers"], self.static(batch["static_codes"])], 1)
        static = static.unsqueeze(1).expand(-1, steps, -1)
        known = torch.cat([batch["known_numbers"], self.known(batch["known_codes"]), static], 2)
        past = torch.cat([batch["past_numbers"], self.past(batch["past_codes"])], 2)
        window = past.shape[1]
        found = {"features": torch.cat([known[:, :window], past], 2)}
        if self.known_size:
            found["coming"] = known[:, window:]
        return batch | found


class CategoryEmbeddings(nn.Module):
    """A vector for every category of several columns, and one for all that were never seen.

    The latter is trained on categories that are replaced at random.

    Args:
        categories: of each column, how many there are and the size of their vectors.
    """

    def __init__(self, categories: Tables) -> None:
        super().__init__()
        self.size = sum(size for _, size in categories)
        self.tables = nn.ModuleList(nn.Embedding(count + 1, size) for count, size in categories)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (..., columns), 0 for a category never seen, to (..., size)."""
        if self.training and len(self.tables):
            codes = codes * (torch.rand(codes.shape, device=codes.device) >= _REPLACED)
        vectors = [table(codes[..., i]) for i, table in enumerate(self.tables)]
        return torch.cat([codes.new_zeros((*codes.shape[:-1], 0), dtype=torch.float32), *vectors], -1)

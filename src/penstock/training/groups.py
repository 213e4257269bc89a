"""A model's layers in groups from the input to the output: which of them learn, and how fast.

Gradual unfreezing and discriminative learning rates are those of Howard & Ruder (2018, "Universal Language
Model Fine-tuning for Text Classification", sections 3.2 and 3.3).
"""

import re
from typing import Any

from torch import nn


def layer_groups(module: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a module: one group, or of a recurrent stack one for each layer, both directions."""
    if not isinstance(module, nn.RNNBase):
        return [list(module.parameters())]
    groups: list[list[nn.Parameter]] = [[] for _ in range(module.num_layers)]
    for name, parameter in module.named_parameters():
        layer = re.search(r"_l(\d+)", name)
        assert layer is not None, f"a parameter of no layer: {name}"
        groups[int(layer[1])].append(parameter)
    return groups


class LayerGroups:
    """The parameters of a model that are trained, from the top group down.

    Args:
        model: a `TaskModel`, whose `layer_groups` name each of its trained parameters once.
        unfreeze_every: epochs after which one group more is trained; 0 trains all from the start.
        layer_decay: learning rate of a group as a share of that of the group above.

    Raises:
        ValueError: the groups of the model are not all of its trained parameters.
    """

    def __init__(self, model: Any, unfreeze_every: int, layer_decay: float) -> None:
        self.unfreeze_every = unfreeze_every
        self.layer_decay = layer_decay
        trained = ([p for p in group if p.requires_grad] for group in model.layer_groups())
        self._groups = [group for group in trained if group][::-1]
        found = sorted(id(parameter) for group in self._groups for parameter in group)
        if found != sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad):
            raise ValueError("layer_groups: expected every trained parameter of the model once")

    def for_optimizer(self) -> list[dict[str, Any]]:
        """One parameter group of the optimizer for each, "rate" being its share of the learning rate."""
        return [
            {"params": group, "rate": self.layer_decay**depth} for depth, group in enumerate(self._groups)
        ]

    def freeze(self, epoch: int) -> None:
        """Let only those groups learn that are trained in this epoch, counted from 0."""
        learning = 1 + epoch // self.unfreeze_every if self.unfreeze_every else len(self._groups)
        for depth, group in enumerate(self._groups):
            for parameter in group:
                parameter.requires_grad_(depth < learning)

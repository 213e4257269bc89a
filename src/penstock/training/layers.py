"""A model layer by layer: kind, output shape, parameters."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from penstock.training.job import Batch, TaskModel


@dataclass(frozen=True)
class Layer:
    """One direct child of a model.

    Attributes:
        name: its attribute in the model.
        kind: its class.
        shape: of its first output for the example batch, or None if it was not called.
        parameters: numbers to train in it.
        frozen: numbers in it that are not trained.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    frozen: int


@torch.no_grad()
def layers(model: TaskModel, batch: Batch) -> list[Layer]:
    """The layers of `model` that have weights or take part, with the shapes that they give for `batch`."""
    shapes: dict[str, tuple[int, ...] | None] = {}

    def note(name: str, output: Any) -> None:
        shapes[name] = _shape(output)

    hooks = [
        child.register_forward_hook(lambda _module, _input, output, name=name: note(name, output))
        for name, child in model.named_children()
    ]
    was_training = model.training
    model.eval()
    try:
        model(batch)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return [
        Layer(name, _kind(child), shapes.get(name), count(child), count(child, trained=False))
        for name, child in model.named_children()
        if name in shapes or any(True for _ in child.parameters())
    ]


def count(model: nn.Module, trained: bool = True) -> int:
    """How many numbers are trained in `model` (or, with trained=False, are not)."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad == trained)


def _shape(output: Any) -> tuple[int, ...] | None:
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return tuple(output.shape) if isinstance(output, Tensor) else None


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.RNNBase):
        size = f"{module.input_size} -> {module.hidden_size}"
        ways = ", both ways" if module.bidirectional else ""
        stack = f", {module.num_layers} layers" if module.num_layers > 1 else ""
        return f"{type(module).__name__} {size}{stack}{ways}"
    if isinstance(module, nn.Linear):
        return f"Linear {module.in_features} -> {module.out_features}"
    if isinstance(module, nn.Embedding):
        return f"Embedding {module.num_embeddings} x {module.embedding_dim}"
    return type(module).__name__

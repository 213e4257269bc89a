"""Models that adapt to the text they are measured on: by a cache of what they have read, or by learning.

Both are models themselves, around another, and take a text in one stream (B = 1). Every token is predicted
before anything is taken from it.

Dimensions: T time, N entries of the cache, R output of the last layer.
"""

import copy
import math

import torch
from torch import Tensor

from penstock.errors import InputError
from penstock.tasks.lm.config import EvaluateOptions
from penstock.tasks.lm.model import Outputs
from penstock.training.job import Batch, TaskModel


class Adapting(TaskModel):
    """A model whose outputs are those of another, changed.

    Args:
        model: the other.
    """

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        self.model = model

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Nats per token."""
        return self.model.loss(outputs, batch)

    def weight(self, batch: Batch) -> Tensor | int:
        """The number of tokens predicted."""
        return self.model.weight(batch)


class Cached(Adapting):
    """A neural cache: the tokens that followed states like the present one are likelier.

    Grave, Joulin & Usunier (2017, "Improving neural language models with a continuous cache"), section 3: of
    the states h_i of the last N steps, each with the token x_{i+1} that followed,

        p_cache(w)  is proportional to  sum_i [x_{i+1} = w] exp(theta h_t . h_i)
        p(w) = (1 - lambda) p_model(w) + lambda p_cache(w)

    A state is what the last layer gives out.

    Args:
        model: what predicts without the cache.
        size: N.
        theta: 0 takes all states for equally like.
        share: lambda, between 0 and 1.
    """

    def __init__(self, model: TaskModel, size: int, theta: float, share: float) -> None:
        super().__init__(model)
        self.size = size
        self.theta = theta
        self.share = share
        self._states: Tensor | None = None  # (n, R)
        self._followed: Tensor | None = None  # (n,), the tokens after them

    def forward(self, batch: Batch) -> Outputs:
        """The outputs of the model, with the likelihood of the targets changed."""
        outputs: Outputs = self.model(batch)
        states, targets = outputs.last[0], batch["targets"][0]
        if self._states is None or self._followed is None or bool(batch["begins"]):
            self._states, self._followed = states[:0], targets[:0]
        known, followed = torch.cat([self._states, states]), torch.cat([self._followed, targets])
        nats = self._mixed(outputs.nats[0], states, targets, known, followed)
        self._states, self._followed = known[-self.size :], followed[-self.size :]
        return outputs._replace(nats=nats[None])

    def _mixed(
        self, nats: Tensor, states: Tensor, targets: Tensor, known: Tensor, followed: Tensor
    ) -> Tensor:
        """The negative log-likelihood of the last T of n known steps, each seeing the N before it."""
        steps = torch.arange(len(known), device=known.device)
        age = steps[-len(states) :, None] - steps  # (T, n)
        seen = (age > 0) & (age <= self.size)
        likeness = (self.theta * states @ known.T).masked_fill(~seen, -torch.inf)
        same = likeness.masked_fill(followed != targets[:, None], -torch.inf)
        in_cache = same.logsumexp(1) - likeness.logsumexp(1)
        mixed = torch.logaddexp(math.log1p(-self.share) - nats, math.log(self.share) + in_cache)
        return torch.where(seen.any(1), -mixed, nats)


class Dynamic(Adapting):
    """Dynamic evaluation: what has been predicted is learnt from, by gradient descent.

    Krause et al. (2018, "Dynamic evaluation of neural sequence models"): after each piece of the text, with g
    the gradient of its mean loss and w_0 the weights before the text,

        w <- w - rate g + decay (w_0 - w)

    The model that is given stays as it is; a copy learns.

    Args:
        model: what predicts.
        rate: the learning rate.
        decay: 0 to 1.

    Raises:
        InputError: the loss is no longer a finite number.
    """

    def __init__(self, model: TaskModel, rate: float, decay: float) -> None:
        super().__init__(copy.deepcopy(model).requires_grad_(True))
        self.rate = rate
        self.decay = decay
        self._weights = list(self.model.parameters())
        self._saved = [weight.detach().clone() for weight in self._weights]

    def forward(self, batch: Batch) -> Outputs:
        """The outputs of the model for a piece of text, from which it then learns."""
        with torch.enable_grad():
            outputs: Outputs = self.model(batch)
            loss = self.model.loss(outputs, batch)
            if not loss.isfinite():
                raise InputError(
                    f"--dynamic {self.rate:g}: the loss became {loss.item()}, try a smaller learning rate"
                )
            gradients = torch.autograd.grad(loss, self._weights, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            for weight, saved, gradient in zip(self._weights, self._saved, gradients, strict=True):
                weight.sub_(self.rate * gradient).lerp_(saved, self.decay)
        return Outputs(*(tensor.detach() for tensor in outputs))


def adapting(model: TaskModel, options: EvaluateOptions) -> TaskModel:
    """The model as the options have it adapt, if at all."""
    if options.dynamic:
        model = Dynamic(model, options.dynamic, options.dynamic_decay)
    if options.cache:
        model = Cached(model, options.cache, options.cache_theta, options.cache_lambda)
    return model

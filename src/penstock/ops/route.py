"""Who computes a layer: decided once a call, from the tensors and from what torch is in the middle of."""

from collections.abc import Iterable, Sequence
from enum import Enum

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from penstock import _native

NATIVE_DTYPES = (
    torch.float32,
    torch.float64,
    *([torch.bfloat16] if _native.bf16_instruction_sets() else []),
)
"""bfloat16 where the processor multiplies it: products are of bfloat16, all else is float32."""


class Route(Enum):
    """From the usual case to the rarest; all but the last are for tensors that the kernels can take."""

    DIRECT = "the kernels"
    OPERATOR = "an operator of torch: it compiles, exports or traces, or a tensor stands for something else"
    TRANSFORMED = "a function that torch.func can transform"
    REFERENCE = "step by step: derivatives are carried along with the values (jvp), which no kernel does"
    FOREIGN = "not the kernels: another device or dtype"


def route(tensors: tuple[Tensor | None, ...]) -> Route:
    """The route for these tensors, the first of which is given."""
    if tensors[0].dtype not in NATIVE_DTYPES:  # type: ignore[union-attr]
        return Route.FOREIGN
    if looks_plain(tensors):
        return Route.DIRECT
    if not is_native(tensors):
        return Route.FOREIGN
    if not torch.compiler.is_compiling():
        if forward_ad._current_level >= 0:
            return Route.REFERENCE
        if is_transformed():
            return Route.TRANSFORMED
    return Route.DIRECT if is_plain(tensors) else Route.OPERATOR


plain = _native.Plain(
    modes=(
        torch._C._are_functorch_transforms_active,
        torch._C._is_tracing,
        torch._C._len_torch_dispatch_stack,
    ),
    forward_ad=forward_ad,
    casts=torch._C._is_any_autocast_enabled,
    differentiates=torch.is_grad_enabled,
    threads=torch.get_num_threads,
    types=(Tensor, Parameter),
)
"""What the kernels' side needs to see for itself that nothing stands between a call and the kernels."""


def is_in_a_mode() -> bool:
    """Whether torch compiles, transforms, differentiates forward or wants to see every operator."""
    return torch.compiler.is_compiling() or plain.is_in_a_mode()


def looks_plain(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether a glance is enough to see that the kernels may be called straight away on these tensors."""
    return not is_in_a_mode() and plain.all_plain(tensors)


def is_native(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the kernels can take these tensors: all on the CPU, all of one dtype that they have."""
    dtype = tensors[0].dtype  # type: ignore[union-attr]
    return dtype in NATIVE_DTYPES and all(t is None or (t.dtype == dtype and t.is_cpu) for t in tensors)


def is_plain(tensors: Iterable[Tensor | None]) -> bool:
    """Whether the kernels may be called straight away on these tensors."""
    if is_in_a_mode():
        return False
    return all(t is None or (type(t) in (Tensor, Parameter) and not t.is_neg()) for t in tensors)


def is_transformed() -> bool:
    """Whether a transform of torch.func is at work."""
    return torch._C._are_functorch_transforms_active()


def are_mapped_by_autograd(tensors: Iterable[Tensor | None]) -> bool:
    """Whether these come from torch.autograd.grad's `is_grads_batched`, whose vmap is not torch.func's."""
    return any(t is not None and is_legacy_batchedtensor(t) for t in tensors)

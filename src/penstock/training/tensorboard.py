"""TensorBoard's `SummaryWriter`, without TensorFlow.

Where TensorFlow is installed, tensorboard loads it to write a file: seconds, and lines of its own on the
terminal. A module of this name is tensorboard's own switch for its small stand-in
(tensorboard/compat/__init__.py).
"""

import sys
from types import ModuleType

sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))

from torch.utils.tensorboard import SummaryWriter  # noqa: E402

__all__ = ["SummaryWriter"]

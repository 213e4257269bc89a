"""Recurrent layers on the native kernels as torch sees them: checks, routes, autograd, operators."""

from penstock.ops.kernel import Options as Options
from penstock.ops.recurrence import Output as Output
from penstock.ops.recurrence import layer as layer
from penstock.ops.recurrence import run as run
from penstock.ops.recurrence import whole as whole
from penstock.ops.route import Route as Route
from penstock.ops.route import is_native as is_native
from penstock.ops.route import route as route

__all__ = ["Options", "Output", "Route", "is_native", "layer", "route", "run", "whole"]

"""Smooth functions, element by element: gradient times derivative.

Where the output tells as much as the input, the output is read: ONNX Runtime can then still fuse the
function into the operator before it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import onnx_ir as ir

from emulator.sensitivity.rules.local import Local
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape
from emulator.sensitivity.rules.term import Term

Derivative = Callable[[Local], Term]

# SELU's constants (Klambauer et al., arXiv 1706.02515), as ONNX has them.
_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _gelu(at: Local) -> Term:
    """x * Phi(x), or its approximation by tanh (Hendrycks & Gimpel, arXiv 1606.08415)."""
    x = at.x
    if at.arc.node.attributes.get_string("approximate", "none") == "none":
        below = 0.5 * (1 + (x * sqrt(0.5)).op("Erf"))
        return below + x * (1 / sqrt(2 * pi) * (-0.5 * (x * x)).op("Exp"))
    slope, cubic = sqrt(2 / pi), sqrt(2 / pi) * 0.044715
    square = x * x
    bent = (x * (slope + cubic * square)).op("Tanh")
    return 0.5 * (1 + bent + x * (1 - bent * bent) * (slope + 3 * cubic * square))


def _mish(at: Local) -> Term:
    """x * tanh(softplus(x)) (Misra, arXiv 1908.08681)."""
    x = at.x
    gate = x.op("Softplus").op("Tanh")
    return gate + x * (1 - gate * gate) * x.op("Sigmoid")


def _swish(default: float) -> Derivative:
    """x * sigmoid(alpha x)."""

    def derivative(at: Local) -> Term:
        scaled = at.x * at.number("alpha", default)
        gate = scaled.op("Sigmoid")
        return gate * (1 + scaled * (1 - gate))

    return derivative


def _elu(at: Local) -> Term:
    x = at.x
    return (at.y + at.number("alpha", 1.0)).where(_negative(x), 1)


def _selu(at: Local) -> Term:
    gamma, alpha = at.number("gamma", _SELU_GAMMA), at.number("alpha", _SELU_ALPHA)
    return (at.y + gamma * alpha).where(_negative(at.x), gamma)


def _celu(at: Local) -> Term:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1)): the exponential is y / alpha + 1 below zero."""
    return (at.y / at.number("alpha", 1.0) + 1).where(_negative(at.x), 1)


def _negative(x: Term) -> ir.Value:
    return x.tape.op("Less", x.value, x.tape.floats(0, x.like))


def _softsign(at: Local) -> Term:
    below = 1 + at.x.op("Abs")
    return 1 / (below * below)


DERIVATIVES: dict[str, Derivative] = {
    "Abs": lambda at: at.x.op("Sign"),
    "Acos": lambda at: -1 / (1 - at.x * at.x).op("Sqrt"),
    "Acosh": lambda at: 1 / (at.x * at.x - 1).op("Sqrt"),
    "Asin": lambda at: 1 / (1 - at.x * at.x).op("Sqrt"),
    "Asinh": lambda at: 1 / (at.x * at.x + 1).op("Sqrt"),
    "Atan": lambda at: 1 / (at.x * at.x + 1),
    "Atanh": lambda at: 1 / (1 - at.x * at.x),
    "Celu": _celu,
    "Cos": lambda at: -at.x.op("Sin"),
    "Cosh": lambda at: at.x.op("Sinh"),
    "Elu": _elu,
    "Erf": lambda at: 2 / sqrt(pi) * (-(at.x * at.x)).op("Exp"),
    "Exp": lambda at: at.y,
    "Gelu": _gelu,
    "Log": lambda at: 1 / at.x,
    "Mish": _mish,
    "Reciprocal": lambda at: -(at.y * at.y),
    "Selu": _selu,
    "Sigmoid": lambda at: at.y * (1 - at.y),
    "Sin": lambda at: at.x.op("Cos"),
    "Sinh": lambda at: at.x.op("Cosh"),
    "Softplus": lambda at: at.x.op("Sigmoid"),
    "Softsign": _softsign,
    "Sqrt": lambda at: 0.5 / at.y,
    "Swish": _swish(1.0),
    "Tan": lambda at: 1 + at.y * at.y,
    "Tanh": lambda at: 1 - at.y * at.y,
    "com.microsoft.Gelu": _gelu,
    "com.microsoft.QuickGelu": _swish(1.702),
}


def _register(op_type: str, derivative: Derivative) -> None:
    @rule(op_type)
    def chain(tape: Tape, arc: Arc) -> ir.Value:
        at = Local(tape=tape, arc=arc)
        return (at.grad * derivative(at)).value


for _op_type, _derivative in DERIVATIVES.items():
    _register(_op_type, _derivative)

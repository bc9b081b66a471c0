"""Gradient rules, one operator family a file; importing this package registers them all.

A new rule is one function under `@rule("OpType")` in the file of its family (see registry.py).
"""

from emulator.sensitivity.rules import (
    activation,
    arithmetic,
    convolution,
    functions,
    indexing,
    linear,
    normalisation,
    pooling,
    quantize,
    reduction,
    resampling,
    structure,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "functions",
    "indexing",
    "linear",
    "normalisation",
    "pooling",
    "quantize",
    "reduction",
    "resampling",
    "structure",
]

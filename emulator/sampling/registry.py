"""The samplers by name, as the command line and campaign files have them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_args

from emulator.errors import BadConfig
from emulator.sampling.adaptive import Adaptive
from emulator.sampling.baselines import BitOnly, Gradient, ISimDL, ProgressiveBitSearch
from emulator.sampling.counted import Counted
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.importance import Importance
from emulator.sampling.sampler import Sampler
from emulator.sampling.stratified import Stratified
from emulator.sampling.sweep import Sweep
from emulator.sampling.uniform import Uniform

SamplerName = Literal[
    "importance",
    "sweep",
    "uniform",
    "stratified",
    "adaptive",
    "exhaustive",
    "bit-only",
    "isimdl",
    "gradient",
    "bfa",
]

_SAMPLERS: dict[str, Any] = {
    kind.name: kind
    for kind in (
        Importance,
        Sweep,
        Uniform,
        Stratified,
        Adaptive,
        Exhaustive,
        BitOnly,
        ISimDL,
        Gradient,
        ProgressiveBitSearch,
    )
}
NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
assert set(_SAMPLERS) == set(NAMES)


# Those that go through every site, by classes.
COUNTED = ("exhaustive", "sweep")
DRAWING = tuple(name for name in NAMES if name not in COUNTED)


def settable(name: str) -> list[str]:
    """The settings of the sampler called so."""
    return [field.name for field in fields(_SAMPLERS[name])]


def sampler_named(name: str, settings: dict[str, Any]) -> Sampler | Counted:
    """The sampler with these settings; raises BadConfig for settings it does not have."""
    known = settable(name)
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        allowed = ", ".join(known) if known else "none"
        raise BadConfig(f"sampler {name!r} has no {', '.join(unknown)}; allowed: {allowed}. Remove it.")
    sampler: Sampler | Counted = _SAMPLERS[name](**settings)
    return sampler

"""The samplers by name, as the command line and campaign files have them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_args

from emulator.errors import BadConfig
from emulator.sampling.adaptive import Adaptive
from emulator.sampling.baselines import BitOnly, Gradient, ISimDL, ProgressiveBitSearch
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.importance import Importance
from emulator.sampling.sampler import Sampler
from emulator.sampling.stratified import Stratified
from emulator.sampling.uniform import Uniform

SamplerName = Literal[
    "importance", "uniform", "stratified", "adaptive", "exhaustive", "bit-only", "isimdl", "gradient", "bfa"
]

_SAMPLERS: dict[str, Any] = {
    kind.name: kind
    for kind in (
        Importance,
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
assert set(_SAMPLERS) == set(get_args(SamplerName))


def sampler_named(name: SamplerName, settings: dict[str, Any]) -> Sampler | Exhaustive:
    """The sampler with these settings; raises BadConfig for settings it does not have."""
    kind = _SAMPLERS[name]
    known = [field.name for field in fields(kind)]
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        allowed = ", ".join(known) if known else "none"
        raise BadConfig(f"sampler {name!r} has no {', '.join(unknown)}; allowed: {allowed}. Remove it.")
    return kind(**settings)

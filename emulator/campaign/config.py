"""A campaign as a TOML file or as flags; both become one CampaignConfig."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emulator.array.presets import PRESETS
from emulator.array.spec import ArraySpec
from emulator.campaign.executors import counted_workers
from emulator.campaign.inputs import load_samples
from emulator.campaign.runner import Campaign
from emulator.choices import did_you_mean
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
from emulator.graph.feeds import parse_shapes
from emulator.graph.load import load
from emulator.sampling.counted import Counted
from emulator.sampling.registry import COUNTED, SamplerName, sampler_named
from emulator.sampling.sampler import Sampler
from emulator.sampling.stopping import StopRule, ci_half_width, max_time, max_trials, min_critical
from emulator.sampling.sweep import Sweep
from emulator.sensitivity.jacobian import Sensitivity

DEFAULT_TRIALS = 10_000
_STOPS: dict[str, Callable[[Any], StopRule]] = {
    "trials": max_trials,
    "until_ci": ci_half_width,
    "max_time": max_time,
    "min_critical": min_critical,
}

# Settings of samplers; `trials` is one of sweep's, and a stop rule of the others.
_SAMPLER = ("alpha", "candidates", "lookahead", "sensitivity", "learn", "floor", "unsolved", "prior")


class CampaignConfig(BaseModel):
    """Every setting of `emulator run`, checked; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    inputs: Path
    shape: list[str] | None = None
    answer: str | None = None
    output: Path = Path("runs/campaign")
    array: str = "gemmini-16"
    registers: list[str] | None = None
    layers: list[int | str] | None = None
    kind: Literal["flip"] = "flip"
    sampler: SamplerName = "importance"
    alpha: float | None = Field(None, gt=0, le=1)
    candidates: int | None = Field(None, ge=1)
    lookahead: int | None = Field(None, ge=0)
    sensitivity: Sensitivity | None = None
    learn: bool | None = None
    floor: float | None = Field(None, ge=0, allow_inf_nan=False)
    unsolved: float | None = Field(None, ge=0, le=1)
    prior: float | None = Field(None, ge=0, allow_inf_nan=False)
    trials: int | None = Field(None, ge=1)
    until_ci: float | None = Field(None, gt=0, lt=0.5)
    max_time: float | None = Field(None, gt=0, allow_inf_nan=False)
    min_critical: int | None = Field(None, ge=1)
    limit: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=1 << 63)
    workers: int | str = "auto"
    memory: int | str | None = None

    def campaign(self) -> Campaign:
        """Load model and data and build the campaign; raises the error of whatever is wrong first."""
        counted_workers(self.workers)  # a misspelt word should not cost the time to load
        network = load(self.model, shapes=parse_shapes(self.shape), answer=self.answer)
        array = load_array(self.array)
        space = FaultSpace(network, array, registers=self.registers, layers=self.layers)
        samples = load_samples(self.inputs, network.graph, self.limit)
        return Campaign(
            network,
            array,
            space,
            inputs=samples,
            sampler=self._sampler(),
            stop=self._stop(),
            seed=self.seed,
            memory=self.memory,
        )

    def _sampler(self) -> Sampler | Counted:
        names = [*_SAMPLER, *(["trials"] if self.sampler == Sweep.name else [])]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return sampler_named(self.sampler, given)

    @property
    def default_trials(self) -> int | None:
        """How many trials where no stop rule is given; None: every site."""
        if self.sampler in COUNTED:
            return Sweep().trials if self.sampler == Sweep.name else None
        return DEFAULT_TRIALS

    @property
    def stops(self) -> dict[str, StopRule]:
        """The stop rules that were given, by their keys."""
        given = {name: getattr(self, name) for name in _STOPS}
        return {name: _STOPS[name](value) for name, value in given.items() if value is not None}

    def _stop(self) -> StopRule | None:
        """The first of the given rules that is met; DEFAULT_TRIALS where none is given. None: every site."""
        if self.sampler not in COUNTED:
            return reduce(or_, self.stops.values()) if self.stops else max_trials(DEFAULT_TRIALS)
        unfit = [name for name in self.stops if (self.sampler, name) != ("sweep", "trials")]
        if unfit:
            raise BadConfig(
                f"sampler {self.sampler!r} goes through every site, it has no {', '.join(unfit)}; remove it, or draw."
            )
        return None


def read_config(path: Path, overrides: dict[str, Any]) -> CampaignConfig:
    """A TOML file with flags laid over it; paths in the file are relative to the file."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise BadConfig(
            f"config {str(path)!r} is not a file that can be read. Write one with `emulator init`."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(
            f"config {str(path)!r} is not TOML: {error}. Compare with `emulator init`."
        ) from error
    for key in ("model", "inputs", "output"):
        if isinstance(values.get(key), str):
            values[key] = path.parent / values[key]
    array = values.get("array")
    if isinstance(array, str) and array.endswith(".toml"):
        values["array"] = str(path.parent / array)
    return make_config({**values, **overrides}, str(path))


def make_config(values: dict[str, Any], where: str) -> CampaignConfig:
    """All mistakes in one BadConfig, each with what is allowed."""
    try:
        return CampaignConfig(**values)
    except ValidationError as error:
        lines = "\n".join(f"  {_complaint(item)}" for item in error.errors())
        raise BadConfig(f"{where}:\n{lines}\nSee `emulator init` for a commented example.") from None


def _complaint(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"][:1])
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}{did_you_mean(key, CampaignConfig.model_fields)}"
    if item["type"] == "missing":
        return f"{key} is missing"
    hint = ""
    if item["type"] == "literal_error":
        hint = did_you_mean(str(item["input"]), re.findall(r"'(.*?)'", item["ctx"]["expected"]))
    return f"{key} = {item['input']!r}{hint}: {item['msg'][0].lower()}{item['msg'][1:]}"


def load_array(text: str) -> ArraySpec:
    """A preset by name, or an ArraySpec from a TOML file."""
    if not text.endswith(".toml"):
        if text not in PRESETS:
            listed = ", ".join(sorted(PRESETS))
            raise BadConfig(
                f"array {text!r}{did_you_mean(text, PRESETS)}; allowed: {listed}, or a .toml file of ArraySpec fields."
            )
        return ArraySpec.preset(text)
    try:
        values = tomllib.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"array file {text!r} can't be read: {error}. Give a TOML file.") from error
    unknown = [key for key in values if key not in ArraySpec.__slots__]
    if unknown:
        hints = ", ".join(f"{key!r}{did_you_mean(key, ArraySpec.__slots__)}" for key in unknown)
        raise BadConfig(f"array file {text!r}: unknown {hints}; allowed: {', '.join(ArraySpec.__slots__)}.")
    try:
        return ArraySpec(**values)
    except TypeError as error:
        raise BadConfig(f"array file {text!r}: {error}. Numbers and names as in ArraySpec.") from error

"""A campaign directory as the settings of `emulator run` that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulator.array.presets import PRESETS
from emulator.array.spec import ArraySpec
from emulator.campaign.config import CampaignConfig, make_config
from emulator.campaign.manifest import read_manifest
from emulator.campaign.replay import recorded_inputs
from emulator.errors import BadConfig
from emulator.sampling.registry import NAMES, sampler_named, settable

_RULES = {
    "max_trials": "trials",
    "ci_half_width": "until_ci",
    "max_time": "max_time",
    "min_critical": "min_critical",
}


def resumed(directory: Path, given: dict[str, Any]) -> CampaignConfig:
    """The campaign of `directory` again, with the given settings laid over its own; stop rules replace its own.

    Raises BadConfig where its sampler is not one of ours, where its array or its stop rule can't be written as
    settings, or its inputs came from no file, and none is given; as `make_config` and `read_manifest` too.
    """
    manifest = read_manifest(directory)
    model = manifest["model"]
    own = {
        "model": model["path"],
        "shape": [f"{name}={','.join(map(str, shape))}" for name, shape in model["shapes"].items()] or None,
        "answer": model["answer"],
        "output": directory,
        "kind": manifest["fault"]["kind"],
        "registers": manifest["registers"],
        "layers": [layer["index"] for layer in manifest["layers"]],
        "limit": manifest["inputs"]["samples"],
        "seed": manifest["seed"],
    }
    # Another sampler is another campaign: that is what is told then, not that its settings don't suit it.
    if given.get("sampler", manifest["sampler"]["name"]) == manifest["sampler"]["name"]:
        own |= _sampler(manifest["sampler"])
    own |= {} if "inputs" in given else {"inputs": recorded_inputs(manifest)}
    own |= {} if "array" in given else {"array": _preset(ArraySpec(**manifest["array"]))}
    own |= {} if set(_RULES.values()) & given.keys() else _stops(manifest["stop"])
    return make_config({**own, **given}, str(directory))


def _sampler(stored: dict[str, Any]) -> dict[str, Any]:
    name = stored["name"]
    settings = {key: stored[key] for key in settable(name) if key in stored} if name in NAMES else {}
    if name not in NAMES or sampler_named(name, settings).settings() != stored:
        raise BadConfig(
            f"the sampler {name!r} of this campaign is not one of `emulator run`, which knows {', '.join(NAMES)}. "
            "Resume it where it was made: Campaign(..., sampler=...).collect(DIR) with the same sampler, in Python."
        )
    return {"sampler": name, **settings}


def _preset(array: ArraySpec) -> str:
    if array.name in PRESETS and ArraySpec.preset(array.name) == array:
        return array.name
    raise BadConfig(f"the array {array.name!r} of this campaign is no preset. Give its file: --array X.toml.")


def _stops(stop: dict[str, Any]) -> dict[str, Any]:
    if "any" in stop:
        return {key: value for rule in stop["any"] for key, value in _stops(rule).items()}
    if "exhausted" in stop:
        return {}
    (rule, value), *_ = stop.items()
    if rule not in _RULES:
        raise BadConfig(
            f"the stop rule of this campaign has no flags ({rule!r}). Give one, e.g. --trials 10000."
        )
    return {_RULES[rule]: value}

"""Systolic fault emulator: quantised networks, replayed on an emulated MAC array, under faults.

import emulator as emu; every name below is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from emulator.array.cycle import run_gemm as run_gemm
    from emulator.array.spec import ArraySpec as ArraySpec
    from emulator.array.upset import Upset as Upset
    from emulator.campaign.check import check as check
    from emulator.campaign.explain import explain as explain
    from emulator.campaign.merging import merge as merge
    from emulator.campaign.replay import replay as replay
    from emulator.campaign.results import Results as Results
    from emulator.campaign.runner import Campaign as Campaign
    from emulator.faults.fault import Fault as Fault
    from emulator.faults.space import FaultSpace as FaultSpace
    from emulator.graph.golden import Golden as Golden
    from emulator.graph.load import load as load
    from emulator.graph.quantize import QuantizeOptions as QuantizeOptions
    from emulator.graph.quantize import quantize as quantize
    from emulator.harden.comparison import compare as compare
    from emulator.harden.fine_tuning import train as train
    from emulator.harden.protect import protect as protect
    from emulator.harden.restriction import restrict as restrict
    from emulator.harden.schedule import TrainingSchedule as TrainingSchedule
    from emulator.report.html import write_report as write_report
    from emulator.sampling.adaptive import Adaptive as Adaptive
    from emulator.sampling.estimate import Estimate as Estimate
    from emulator.sampling.exhaustive import Exhaustive as Exhaustive
    from emulator.sampling.importance import Importance as Importance
    from emulator.sampling.stopping import ci_half_width as ci_half_width
    from emulator.sampling.stopping import max_time as max_time
    from emulator.sampling.stopping import max_trials as max_trials
    from emulator.sampling.stopping import min_critical as min_critical
    from emulator.sampling.stratified import Stratified as Stratified
    from emulator.sampling.sweep import Sweep as Sweep
    from emulator.sampling.uniform import Uniform as Uniform
    from emulator.sensitivity.backward import gradient_model as gradient_model
    from emulator.sensitivity.rules.straight_through import StraightThrough as StraightThrough

_HOMES = {
    "Adaptive": "sampling.adaptive",
    "ArraySpec": "array.spec",
    "Campaign": "campaign.runner",
    "Estimate": "sampling.estimate",
    "Exhaustive": "sampling.exhaustive",
    "Fault": "faults.fault",
    "FaultSpace": "faults.space",
    "Golden": "graph.golden",
    "Importance": "sampling.importance",
    "QuantizeOptions": "graph.quantize",
    "Results": "campaign.results",
    "StraightThrough": "sensitivity.rules.straight_through",
    "Stratified": "sampling.stratified",
    "Sweep": "sampling.sweep",
    "TrainingSchedule": "harden.schedule",
    "Uniform": "sampling.uniform",
    "Upset": "array.upset",
    "check": "campaign.check",
    "ci_half_width": "sampling.stopping",
    "compare": "harden.comparison",
    "explain": "campaign.explain",
    "gradient_model": "sensitivity.backward",
    "load": "graph.load",
    "max_time": "sampling.stopping",
    "max_trials": "sampling.stopping",
    "min_critical": "sampling.stopping",
    "merge": "campaign.merging",
    "protect": "harden.protect",
    "quantize": "graph.quantize",
    "replay": "campaign.replay",
    "restrict": "harden.restriction",
    "run_gemm": "array.cycle",
    "train": "harden.fine_tuning",
    "write_report": "report.html",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'emulator' has no attribute {name!r}")
    return getattr(import_module(f"emulator.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

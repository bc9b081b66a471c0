"""One chunk of trials as a pure function: the same workbench, sampler, seed and chunk give the same columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.registers import inventory
from emulator.array.tiling import Schedule, k_block
from emulator.faults.fault import FaultBatch
from emulator.faults.plan import plan_of
from emulator.faults.salvo import Salvo, strike
from emulator.faults.strikes import ENGINES, Extent, Strikes, extent_of
from emulator.propagate.classes import changes_of
from emulator.propagate.outcome import judge, margin
from emulator.propagate.propagator import Effects
from emulator.propagate.stage import Stage
from emulator.sampling.counted import Counted, classes_of_chunk
from emulator.sampling.past import Past
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import SampledFaults, Sampler
from emulator.sampling.site_classes import SiteClasses, some_rows
from emulator.sampling.workbench import Workbench

Columns = dict[str, npt.NDArray[Any]]

# Of the classes that are judged at once the logits are kept.
LOGITS = 1 << 20

_STAGES = np.array([stage.name.lower() for stage in Stage], object)


def run_chunk(
    bench: Workbench, sampler: Sampler, past: Past, *, seed: int, chunk: int, first: int, count: int
) -> Columns:
    """Trials first .. first + count of the campaign, drawn and judged: every column of the schema."""
    sampled = sampler.draw(bench, rng_for(seed, chunk), count, past)
    columns = {**_identity(bench, sampled), **_numbers(seed, chunk, first, sampled)}
    salvo = Salvo(bench.golden, bench.array, sampled.faults, sampled.image)
    for volley in salvo.volleys:
        strikes = salvo.strike(bench.inference(volley.image), volley)
        layer = sampled.faults.layer[volley.place]
        for name, values in judge_strikes(bench, volley.image, layer, strikes).items():
            columns.setdefault(name, np.empty(count, values.dtype))[volley.place] = values
    return columns


def count_chunk(bench: Workbench, sampler: Counted, *, seed: int, chunk: int, first: int) -> Columns:
    """The classes of a chunk that `sampler` chooses, judged: the same columns; a row is one site of a class and
    register, class_size how many there are, and log_weight -ln of the probability with which it is judged."""
    every = classes_of_chunk(bench, chunk)
    chosen = sampler.choose(bench, every, rng_for(seed, chunk))
    found = some_rows(every, chosen.rows)
    faults = SampledFaults(
        image=np.full(len(chosen.rows), found.image),
        faults=found.faults,
        log_weight=-np.log(chosen.inclusion),
        score=chosen.score,
    )
    return {
        **_identity(bench, faults),
        **_judge_classes(bench, found),
        "class_size": found.sites,
        **_numbers(seed, chunk, first, faults),
    }


def _judge_classes(bench: Workbench, found: SiteClasses) -> Columns:
    """Each class followed once: outcome and effect of every row."""
    parts: list[Columns] = []
    hang = np.zeros(len(found.changes.op), np.bool_)
    hang[found.of] = found.extent.hang
    most = max(1, LOGITS // bench.network.graph.classes)
    for start in range(0, max(1, len(hang)), most):
        some = slice(start, start + most)
        effects = bench.propagator.run_classes(bench.inference(found.image), changes_of(found.changes, some))
        parts.append(
            {**_outcome(bench, found.image, effects, hang[some]), "n_corrupt_out": effects.corrupted}
        )
    judged = {name: np.concatenate([part[name] for part in parts])[found.of] for name in parts[0]}
    return {**judged, **_effect(found.extent)}


def _numbers(seed: int, chunk: int, first: int, sampled: SampledFaults) -> Columns:
    """Which trials these are, and what the sampler says of them."""
    count = len(sampled.image)
    return {
        "trial_id": first + np.arange(count),
        "chunk": np.full(count, chunk),
        "seed": np.full(count, seed),
        "log_weight": sampled.log_weight,
        "score": sampled.score,
    }


def judge_faults(bench: Workbench, image: int, faults: FaultBatch) -> Columns:
    """Strike, propagate and judge faults on one image: the outcome and effect columns."""
    strikes = strike(bench.golden, bench.inference(image), bench.array, faults)
    return judge_strikes(bench, image, faults.layer, strikes)


def judge_strikes(bench: Workbench, image: int, layer: npt.NDArray[np.int64], strikes: Strikes) -> Columns:
    """Propagate and judge: the same of faults that have been struck, fault f in MAC layer layer[f]."""
    effects = bench.propagator.run(bench.inference(image), layer, strikes.errors)
    return {
        **_outcome(bench, image, effects, strikes.hang),
        **_effect(extent_of(strikes)),
        "n_corrupt_out": effects.corrupted,
        "class_size": effects.class_size,
    }


def _identity(bench: Workbench, sampled: SampledFaults) -> Columns:
    """Where each fault strikes, and its name: input and site as one hexadecimal number."""
    faults, count = sampled.faults, len(sampled.image)
    size = bench.space.size
    numbers = zip(sampled.image.tolist(), bench.space.indices(faults), strict=True)
    registers = np.array([entry.name for entry in inventory(bench.array)], object)
    names = np.array([layer.name for layer in bench.network.graph.layers], object)
    return {
        "fault_id": np.array([f"{image * size + index:x}" for image, index in numbers], object),
        "input_id": sampled.image,
        "layer": faults.layer,
        "layer_name": names[faults.layer],
        **_folds(bench, faults),
        "cycle": faults.cycle,
        "row": faults.row,
        "col": faults.col,
        "register": registers[faults.register],
        "bits": np.int64(1) << faults.bit,
        "kind": np.full(count, "flip", object),
        "until_cycle": np.full(count, -1),
        "stratum": np.full(count, "all", object),
    }


def _folds(bench: Workbench, faults: FaultBatch) -> Columns:
    """The fold each fault strikes and its place in the tiling; -1 for a dead site."""
    columns = {name: np.empty(len(faults), np.int64) for name in ("row_fold", "col_fold", "k_fold")}
    array = bench.array
    os = array.dataflow == "os"
    rows, depth = (array.rows, k_block(array)) if os else (array.acc_rows // 2, array.rows)
    for layer in np.unique(faults.layer).tolist():
        chosen = np.flatnonzero(faults.layer == layer)
        plan: Schedule = plan_of(array, bench.network.graph.layers[layer])
        fold = faults.fold[chosen]
        columns["row_fold"][chosen] = plan.m_start[fold] // rows
        columns["col_fold"][chosen] = plan.n_start[fold] // array.cols
        columns["k_fold"][chosen] = plan.k_start[fold] // depth
    columns["tile"] = faults.fold
    return columns


def _outcome(bench: Workbench, image: int, effects: Effects, hang: npt.NDArray[np.bool_]) -> Columns:
    """A hang is a DUE: there is no answer that could be wrong."""
    graph = bench.network.graph
    golden = bench.golden.logits(bench.inference(image))
    outcome = judge(graph.answer, golden, effects.logits)
    count = len(effects.stage)
    return {
        "masked_at": np.where(hang, _STAGES[Stage.NONE], _STAGES[effects.stage]),
        "due": hang,
        "tie": outcome.tie,
        "sdc1": outcome.sdc1,
        "sdc5": outcome.sdc5,
        "sdc10": outcome.sdc10,
        "sdc20": outcome.sdc20,
        "top1_golden": np.full(count, golden.argmax()),
        "top1_faulty": outcome.top1,
        "margin_golden": np.full(count, margin(golden), np.float32),
    }


def _effect(extent: Extent) -> Columns:
    return {
        "engine": np.array(ENGINES, object)[extent.engine],
        "n_corrupt_acc": extent.size,
        "max_abs_delta_acc": extent.largest,
    }

"""Exhaustive tables: what every flip of every live word of some registers does to the answer, image by image.

    tools/ground_truth MODEL --inputs X.npz --registers accumulator,pe_b --random 16 --lowest 8 -o DIR

One file an image, DIR/<image>.npz, and what it cost in DIR/<image>.json; those that are there already are kept. A flip
is one bit of one word (the cycles in which it has the same effect are counted, as `sites`). Flips that store the same
are one class; `class_*` has a row for each. `sample_*` holds flips drawn at random, critical ones more often, with what
first-order tools would say of them; each stands for `sample_weight` flips, and its outcome is that of its class.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import load_samples
from emulator.faults.space import FaultSpace, Stratum
from emulator.faults.strike import strike_words
from emulator.faults.strikes import strikes_of
from emulator.faults.words import WordBlock, word_blocks
from emulator.graph.load import load
from emulator.jit import kernel
from emulator.propagate.classes import Changes, Classes, changes_of
from emulator.propagate.outcome import judge
from emulator.sampling.counted import live_layers
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.first_order import first_order

Columns = dict[str, npt.NDArray[Any]]
LOOKAHEADS = (0, 2)
SAMPLED = 300_000
"""Flips of an image and register kept one by one, about; beside them, of a layer, so many critical ones:"""
SAMPLED_CRITICAL = 2000
WORDS = 1 << 12
AT_ONCE = 1 << 16
BITS = 32


class Clock:
    """Seconds spent in each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def main() -> None:
    """Write the tables that are missing, a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--inputs", required=True, help="an .npz as `emulator run` takes it")
    parser.add_argument("--registers", default="accumulator,pe_b")
    parser.add_argument("--limit", type=int, help="images to choose from: the first of the inputs")
    parser.add_argument(
        "--random", type=int, default=16, help="images drawn at random (default: %(default)s)"
    )
    parser.add_argument(
        "--lowest",
        type=int,
        default=0,
        help="more images, at random of the tenth that has the lowest margins",
    )
    parser.add_argument(
        "--seed", type=int, default=2026, help="of the choice of images and of the flips kept"
    )
    parser.add_argument("--no-outlooks", action="store_true", help="truth alone: no scores, no sample")
    parser.add_argument("-o", "--output", type=Path, required=True)
    wanted = parser.parse_args()
    network, array = load(wanted.model), ArraySpec.preset("gemmini-16")
    space = FaultSpace(network, array, registers=wanted.registers.split(","))
    samples = load_samples(wanted.inputs, network.graph, wanted.limit)
    bench = Workbench(network, array, space, samples.inputs)
    images = chosen_images(bench, wanted.random, wanted.lowest, wanted.seed)
    wanted.output.mkdir(parents=True, exist_ok=True)
    about = {
        "model": wanted.model.name,
        "registers": names_of(bench),
        "seed": wanted.seed,
        "live": space.live,
        **images,
    }
    (wanted.output / "table.json").write_text(json.dumps(about, indent=1))
    for image in images["random"] + images["lowest"]:
        path = wanted.output / f"{image}.npz"
        if path.exists():
            continue
        clock = Clock()
        columns = table(bench, image, clock, outlooks=not wanted.no_outlooks, seed=wanted.seed)
        np.savez(path.with_suffix(".tmp.npz"), allow_pickle=False, **columns)
        path.with_suffix(".tmp.npz").rename(path)
        found = json.dumps(summary(image, columns, clock))
        path.with_suffix(".json").write_text(found)
        print(found, flush=True)


def chosen_images(bench: Workbench, random: int, lowest: int, seed: int) -> dict[str, list[int]]:
    """Indices: "random", and "lowest" of those with low margins that are not among them."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(bench.images, min(random, bench.images), replace=False)
    low = np.argsort(bench.margins, kind="stable")[: max(lowest, bench.images // 10)]
    more = rng.permutation(np.setdiff1d(low, chosen))[:lowest]
    return {"random": sorted(chosen.tolist()), "lowest": sorted(more.tolist())}


def summary(image: int, columns: Columns, clock: Clock) -> dict[str, Any]:
    critical = columns["class_sdc1"]
    return {
        "image": image,
        "margin": float(columns["margin"]),
        "classes": len(critical),
        "critical_classes": int(critical.sum()),
        "ties": int(columns["class_tie"].sum()),
        "flips": columns["class_flips"].sum(axis=0).tolist(),
        "seconds": {name: round(spent, 1) for name, spent in clock.seconds.items()},
        "truth_seconds": round(sum(clock.seconds[name] for name in ("strike", "propagate")), 1),
    }


def table(bench: Workbench, image: int, clock: Clock, *, outlooks: bool, seed: int) -> Columns:
    """The table of one image: class_* (classes,) or (classes, registers), sample_* (flips kept,), by_bit (registers,
    layers, bits, 2): flips and critical ones that are no ties; margin."""
    names = names_of(bench)
    parts: dict[str, list[Any]] = {}
    by_bit = np.zeros((len(names), len(bench.network.graph.layers), BITS, 2), np.int64)
    before = 0
    for strata in live_layers(bench.space):
        found = layer_table(bench, image, strata, names, clock, outlooks=outlooks, seed=seed)
        if "sample_class" in found:
            found["sample_class"] += before
        before += len(found["class_sdc1"])
        by_bit[:, strata[0].layer] = found.pop("by_bit")
        for name, column in found.items():
            parts.setdefault(name, []).append(column)
    columns: Columns = {name: np.concatenate(column) for name, column in parts.items()}
    return {**columns, "by_bit": by_bit, "margin": np.array(bench.margins[image])}


def layer_table(
    bench: Workbench,
    image: int,
    strata: list[Stratum],
    names: list[str],
    clock: Clock,
    *,
    outlooks: bool,
    seed: int,
) -> Columns:
    """The rows of one layer."""
    inference, layer = bench.inference(image), strata[0].layer
    classes = Classes(bench.golden.program, inference)
    flips: dict[str, npt.NDArray[np.int64]] = {}
    sites: dict[str, npt.NDArray[np.int64]] = {}
    class_of: list[npt.NDArray[np.int32]] = []
    for stratum in strata:
        classes.count_anew()
        counted, parts = np.zeros((0, BITS), np.int64), []
        for block in word_blocks(stratum, WORDS):
            with clock("strike"):
                strikes = strike_words(bench.golden, inference, bench.array, block)
                cycles = np.repeat(block.cycles, block.bits)
                parts.append(classes.add(np.full(len(cycles), layer), strikes.errors, cycles))
            with clock("tables"):
                if len(classes) > len(counted):
                    counted = with_room(counted, len(classes))
                tally(counted, parts[-1], block.bits, block.first.bit)
        flips[stratum.register.name], sites[stratum.register.name] = counted, classes.sizes.copy()
        class_of.append(np.concatenate(parts))
    with clock("propagate"):
        columns = judged(bench, image, classes.changes)
    critical = columns["class_sdc1"] & ~columns["class_tie"]
    if outlooks:
        with clock("score"):
            columns |= outlook_columns(bench, image, classes.changes)
        with clock("tables"):
            kept = [
                sampled(
                    bench, image, stratum, of, critical, np.random.default_rng([seed, image, layer, code])
                )
                for code, (stratum, of) in enumerate(zip(strata, class_of, strict=True))
            ]
            names_kept = next((part for part in kept if part), {})
            columns |= {name: np.concatenate([part[name] for part in kept if part]) for name in names_kept}
    columns["class_layer"] = np.full(len(classes), layer, np.int16)
    dense = {name: with_room(counted, len(classes))[: len(classes)] for name, counted in flips.items()}
    none = np.zeros((len(classes), BITS), np.int64)
    columns["class_flips"] = np.stack([dense.get(name, none).sum(axis=1) for name in names], axis=1)
    columns["class_sites"] = np.stack(
        [exactly(sites.get(name, none[:0, 0]), len(classes)) for name in names], axis=1
    )
    columns["by_bit"] = np.stack(
        [
            np.stack([dense.get(name, none).sum(axis=0), dense.get(name, none)[critical].sum(axis=0)], axis=1)
            for name in names
        ]
    )
    return columns


def names_of(bench: Workbench) -> list[str]:
    """The registers, in the order of every column that has one a register."""
    return list(dict.fromkeys(s.register.name for s in bench.space.strata))


@kernel
def tally(counts: Any, of: Any, bits: Any, first_bit: Any) -> None:
    """One more flip of the class of each, and of its bit; counts (classes, BITS)."""
    flip = 0
    for word in range(len(bits)):
        for bit in range(first_bit[word], first_bit[word] + bits[word]):
            counts[of[flip], bit] += 1
            flip += 1


def with_room(counts: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """(classes or more, BITS): room is doubled, so that growing is cheap."""
    return np.concatenate([counts, np.zeros((max(classes, 2 * len(counts)) - len(counts), BITS), np.int64)])


def exactly(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """The first `size`, zeros where there are not so many."""
    return np.concatenate([counts[:size], np.zeros(max(0, size - len(counts)), np.int64)])


def sampled(
    bench: Workbench,
    image: int,
    stratum: Stratum,
    of: npt.NDArray[np.int32],
    critical: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Columns:
    """Some flips of a stratum one by one, of (flips,) the class of each in the order of its words."""
    register = stratum.register.name
    all_live = sum(s.live for s in bench.space.strata if s.register.name == register)
    ordinary = min(1.0, SAMPLED * stratum.live / all_live / len(of))
    found = critical[of]
    chance = np.array([ordinary, min(1.0, max(ordinary, SAMPLED_CRITICAL / max(1, int(found.sum()))))])
    chosen = np.flatnonzero(rng.random(len(of)) < chance[found.astype(np.intp)])
    parts, start = [], 0
    for block in word_blocks(stratum, WORDS):
        stop = start + int(block.bits.sum())
        first, last = np.searchsorted(chosen, (start, stop)).tolist()
        if first < last:
            parts.append(some_flips(bench, image, block, chosen[first:last] - start))
        start = stop
    if not parts:
        return {}
    return {
        "sample_class": of[chosen].astype(np.int64),
        "sample_register": np.full(len(chosen), names_of(bench).index(register), np.int8),
        "sample_layer": np.full(len(chosen), stratum.layer, np.int16),
        "sample_weight": 1 / chance[found[chosen].astype(np.intp)],
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
    }


def some_flips(bench: Workbench, image: int, block: WordBlock, at: npt.NDArray[np.intp]) -> Columns:
    """Flips `at` of a block; words without any are not struck."""
    flips, word = block.flips(at), block.word
    struck = np.isin(np.arange(len(block)), word[at])
    # Counted through the words that are struck, a flip comes as much earlier as flips before it are not.
    place = (np.cumsum(struck[word]) - 1)[at]
    strikes = strike_words(bench.golden, bench.inference(image), bench.array, block[struck])
    change, sensitivity = first_order(
        bench.golden, flips.layer, strikes_of(strikes, place), bench.slopes(image)
    )
    return {
        "sample_bit": flips.bit.astype(np.int8),
        "sample_cycles": block.cycles[word[at]],
        "sample_change": change.astype(np.float32),
        "sample_sensitivity": sensitivity.astype(np.float32),
    }


def judged(bench: Workbench, image: int, changes: Changes) -> Columns:
    """Every class followed to the answer."""
    inference = bench.inference(image)
    golden, parts = bench.golden.logits(inference), []
    for start in range(0, len(changes.op), AT_ONCE):
        effects = bench.propagator.run_classes(inference, changes_of(changes, slice(start, start + AT_ONCE)))
        outcome = judge(bench.network.graph.answer, golden, effects.logits)
        parts.append((outcome.sdc1, outcome.tie, effects.stage))
    names = ("class_sdc1", "class_tie", "class_stage")
    return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def outlook_columns(bench: Workbench, image: int, changes: Changes) -> Columns:
    """What is foreseen of each class."""
    columns: Columns = {"class_changed": np.diff(changes.ptr).astype(np.int32)}
    for lookahead in LOOKAHEADS:
        outlook = bench.predictor(image, lookahead).outlook_of_classes(changes)
        columns |= {
            f"class_left{lookahead}": outlook.left,
            f"class_movement{lookahead}": outlook.movement,
            f"class_alive{lookahead}": outlook.alive,
        }
    return columns


if __name__ == "__main__":
    main()

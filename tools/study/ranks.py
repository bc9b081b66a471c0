"""Every score on the tables: what it ranks first, and what drawing by it would save.

.venv/bin/python tools/study/ranks.py TABLES [--which random] [--seeds 10]     one JSON object
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ranking import Ranking, mean_ranking, neyman_reduction, ranking_of, reduction
from tables import ImageTable, Tables, fitted_on, read_tables

from emulator.sensitivity.crossing import crossing, preference_of

Floats = npt.NDArray[np.float64]
Rows = dict[int, npt.NDArray[np.intp]]

PILOT = 20_000
ALPHA = 0.1


def main() -> None:
    """Print the comparison of one model's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tables", type=Path, help="a directory that tools/ground_truth wrote")
    parser.add_argument("--which", default="random", choices=("random", "lowest"))
    parser.add_argument("--seeds", type=int, default=10)
    wanted = parser.parse_args()
    tables = read_tables(wanted.tables)
    found = {
        "model": tables.about["model"],
        "which": wanted.which,
        "images": [table.image for table in tables.some(wanted.which)],
        "registers": {
            name: compare(tables, name, wanted.which, wanted.seeds) for name in tables.about["registers"]
        },
    }
    print(json.dumps(found, indent=1))


def compare(tables: Tables, register: str, which: str, seeds: int) -> dict[str, Any]:
    """Of one register: every class by our scores, the flips that were kept by all."""
    chosen, code = tables.some(which), tables.register(register)
    models = cross_fitted(tables, chosen, code, seeds)
    return {
        "classes": of_classes(chosen, code, models, seeds),
        "flips": of_flips(chosen, code, models[0], seeds),
        "margins": {table.image: float(table.columns["margin"]) for table in chosen},
    }


def cross_fitted(
    tables: Tables, chosen: list[ImageTable], code: int, seeds: int
) -> list[dict[int, Callable[[ImageTable], Floats]]]:
    """For each seed and image, a score fitted on images that it is not among: the other half of all there are."""
    result = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        halves = np.array_split(rng.permutation(len(tables.images)), 2)
        of_image: dict[int, Callable[[ImageTable], Floats]] = {}
        for mine, others in (halves, halves[::-1]):
            model = fitted_on([tables.images[i] for i in others], code, PILOT, rng)
            for i in mine:
                of_image[tables.images[i].image] = model
        result.append({table.image: of_image[table.image] for table in chosen})
    return result


def of_classes(
    chosen: list[ImageTable],
    code: int,
    models: list[dict[int, Callable[[ImageTable], Floats]]],
    seeds: int,
) -> dict[str, Any]:
    """Exhaustive: every flip of every word of the images, by class."""
    rows = {table.image: np.flatnonzero(table.columns["class_flips"][:, code]) for table in chosen}
    joined = Joined(chosen, rows)
    critical = joined.of(lambda table: table.critical)
    flips = joined.of(lambda table: table.columns["class_flips"][:, code])
    sites = joined.of(lambda table: table.columns["class_sites"][:, code]).astype(np.float64)
    fixed = {
        "gradients": joined.of(lambda table: crossing(table.outlook(0))),
        "lookahead": joined.of(lambda table: crossing(table.outlook(2))),
    }
    found: dict[str, list[Ranking]] = {}
    saved: dict[str, list[float]] = {}
    for seed in range(seeds):
        fitted = joined.of(lambda table, seed=seed: models[seed][table.image](table))
        for name, score in {**fixed, "fitted": fitted}.items():
            rng = np.random.default_rng(seed)
            found.setdefault(name, []).append(ranking_of(critical, flips, score, rng))
            saved.setdefault(name, []).append(reduction(critical, sites, preference_of(score), ALPHA))
    return {
        "prevalence": found["lookahead"][0].prevalence,
        "site_rate": float(np.average(critical, weights=sites)),
        "scores": {name: summed(found[name], saved[name]) for name in found},
    }


def of_flips(
    chosen: list[ImageTable], code: int, model: dict[int, Callable[[ImageTable], Floats]], seeds: int
) -> dict[str, Any]:
    """The flips that were kept one by one: all scores on the same flips, and Neyman's allocation."""
    rows = {table.image: np.flatnonzero(table.columns["sample_register"] == code) for table in chosen}
    joined = Joined(chosen, rows)
    layer = joined.of(lambda table: table.columns["sample_layer"]).astype(np.int64)
    bit = joined.of(lambda table: table.columns["sample_bit"]).astype(np.int64)
    cycles = joined.of(lambda table: table.columns["sample_cycles"]).astype(np.float64)
    critical = joined.of(lambda table: table.critical[table.columns["sample_class"]])
    change = joined.of(
        lambda table: np.abs(table.columns["sample_change"]) / max(float(table.columns["margin"]), 0.5)
    )
    loss = joined.of(lambda table: -table.columns["sample_change"] / max(float(table.columns["margin"]), 0.5))
    sensitivity = joined.of(lambda table: table.columns["sample_sensitivity"])
    of_layer = np.bincount(layer, cycles)
    scores = {
        "uniform": np.zeros(len(layer)),
        "bit-only": 2.0**bit,
        "isimdl": sensitivity * 2.0**bit / of_layer[layer],
        "gradient": np.minimum(change, 1.0),
        "bfa": np.maximum(loss, 0),
    }
    ours = {
        "gradients": joined.of(lambda table: crossing(table.outlook(0))[table.columns["sample_class"]]),
        "lookahead": joined.of(lambda table: crossing(table.outlook(2))[table.columns["sample_class"]]),
        "fitted": joined.of(lambda table: model[table.image](table)[table.columns["sample_class"]]),
    }
    one = np.ones(len(layer), np.int64)
    found = {
        name: summed(
            [ranking_of(critical, one, score, np.random.default_rng(seed)) for seed in range(seeds)],
            [reduction(critical, cycles, preference_of(score) if name in ours else score + 1e-6, ALPHA)],
        )
        for name, score in {**scores, **ours}.items()
    }
    return {"neyman": neyman_reduction(critical, cycles, layer * 64 + bit), "scores": found}


class Joined:
    """Some rows of every image's columns, one image after the other."""

    def __init__(self, chosen: list[ImageTable], rows: Rows) -> None:
        self.chosen = chosen
        self.rows = rows

    def of(self, column: Callable[[ImageTable], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate([column(table)[self.rows[table.image]] for table in self.chosen])


def summed(found: list[Ranking], saved: list[float]) -> dict[str, float]:
    """Means over seeds, and how far AUPRC spreads."""
    mean = mean_ranking(found)
    return {
        **asdict(mean),
        "ceiling": mean.ceiling,
        "auprc_spread": float(np.std([ranking.auprc for ranking in found])),
        "variance_reduction": float(np.mean(saved)),
    }


if __name__ == "__main__":
    main()

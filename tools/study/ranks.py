"""Every score on the tables: what it ranks first, and what drawing by it would save.

.venv/bin/python tools/study/ranks.py TABLES [--which random] [--seeds 10]     one JSON object
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ranking import Ranking, mean_ranking, neyman_reduction, ranking_of, reduction
from tables import ImageTable, Tables, fitted_on, read_tables

from emulator.sensitivity.crossing import preference_of

Floats = npt.NDArray[np.float64]
Rows = dict[int, npt.NDArray[np.intp]]

Figures = tuple[Ranking, dict[float, float]]

PILOT = 20_000
ALPHAS = (0.5, 0.1)


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
        "classes": of_classes(chosen, code, models),
        "flips": of_flips(chosen, code, models[0]),
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
) -> dict[str, Any]:
    """Exhaustive: every flip of every word of the images, by class."""
    rows = {table.image: np.flatnonzero(table.columns["class_flips"][:, code]) for table in chosen}
    joined = Joined(chosen, rows)
    critical = joined.of(lambda table: table.critical)
    flips = joined.of(lambda table: table.columns["class_flips"][:, code])
    sites = joined.of(lambda table: table.columns["class_sites"][:, code]).astype(np.float64)
    fixed = {
        "gradients": joined.of(lambda table: table.crossing(0)),
        "lookahead": joined.of(lambda table: table.crossing(2)),
    }
    found: dict[str, list[Figures]] = {
        name: [figures(critical, flips, sites, score, preference_of(score))] for name, score in fixed.items()
    }
    for model in models:
        score = joined.of(partial(scored, model))
        found.setdefault("fitted", []).append(figures(critical, flips, sites, score, preference_of(score)))
    return {
        "prevalence": found["lookahead"][0][0].prevalence,
        "site_rate": float(np.average(critical, weights=sites)),
        "scores": {name: summed(several) for name, several in found.items()},
    }


def scored(model: dict[int, Callable[[ImageTable], Floats]], table: ImageTable) -> Floats:
    """(classes,) by the model that belongs to the image."""
    return model[table.image](table)


def of_flips(
    chosen: list[ImageTable], code: int, model: dict[int, Callable[[ImageTable], Floats]]
) -> dict[str, Any]:
    """The flips that were kept one by one, each for as many as it stands for: all scores on the same flips, and
    Neyman's allocation."""
    rows = {table.image: np.flatnonzero(table.columns["sample_register"] == code) for table in chosen}
    joined = Joined(chosen, rows)
    layer = joined.of(lambda table: table.columns["sample_layer"]).astype(np.int64)
    bit = joined.of(lambda table: table.columns["sample_bit"]).astype(np.int64)
    cycles = joined.of(lambda table: table.columns["sample_cycles"]).astype(np.float64)
    critical = joined.of(lambda table: table.critical[table.columns["sample_class"]])
    loss = joined.of(lambda table: -table.columns["sample_change"] / max(float(table.columns["margin"]), 0.5))
    sensitivity = joined.of(lambda table: table.columns["sample_sensitivity"])
    stands_for = joined.of(lambda table: table.columns["sample_weight"])
    of_layer = np.bincount(layer, cycles * stands_for)
    scores = {
        "uniform": np.zeros(len(layer)),
        "bit-only": 2.0**bit,
        "isimdl": sensitivity * 2.0**bit / of_layer[layer],
        "gradient": np.minimum(np.abs(loss), 1.0),
        "bfa": np.maximum(loss, 0),
    }
    ours = {
        "gradients": joined.of(lambda table: table.crossing(0)[table.columns["sample_class"]]),
        "lookahead": joined.of(lambda table: table.crossing(2)[table.columns["sample_class"]]),
        "fitted": joined.of(lambda table: model[table.image](table)[table.columns["sample_class"]]),
    }
    sites = cycles * stands_for
    found = {
        name: summed(
            [
                figures(
                    critical, stands_for, sites, score, preference_of(score) if name in ours else score + 1e-6
                )
            ]
        )
        for name, score in {**scores, **ours}.items()
    }
    return {"neyman": neyman_reduction(critical, sites, layer * 64 + bit), "scores": found}


def figures(critical: Any, flips: Any, sites: Floats, score: Floats, preference: Floats) -> Figures:
    """How a score ranks, and what drawing by it would save with each share of uniform draws."""
    saved = {alpha: reduction(critical, sites, preference, alpha) for alpha in ALPHAS}
    return ranking_of(critical, flips, score), saved


class Joined:
    """Some rows of every image's columns, one image after the other."""

    def __init__(self, chosen: list[ImageTable], rows: Rows) -> None:
        self.chosen = chosen
        self.rows = rows

    def of(self, column: Callable[[ImageTable], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate([column(table)[self.rows[table.image]] for table in self.chosen])


def summed(found: list[Figures]) -> dict[str, Any]:
    """Means over seeds, and how far AUPRC spreads."""
    mean = mean_ranking([ranking for ranking, _ in found])
    return {
        **asdict(mean),
        "ceiling": mean.ceiling,
        "auprc_spread": float(np.std([ranking.auprc for ranking, _ in found])),
        "variance_reduction": {
            alpha: float(np.mean([saved[alpha] for _, saved in found])) for alpha in ALPHAS
        },
    }


if __name__ == "__main__":
    main()

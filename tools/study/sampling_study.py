"""docs/sampling_study.md from the figures of the study.

    .venv/bin/python tools/study/sampling_study.py FIGURES

FIGURES holds what tools/sampling_study put there: the tables, ranks-*.json, campaigns-*.json, replays-*.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plots import bits_plot, recall_plot
from ranking import SHARES
from targets import BASELINES, Target, targets_of

DOCUMENTS = Path(__file__).parents[2] / "docs"
OURS = ("gradients", "lookahead", "fitted")


def main() -> None:
    """Write the document and its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("figures", type=Path)
    wanted = parser.parse_args()
    tables = [path.parent for path in sorted(wanted.figures.glob("*/table.json"))]
    ranked, drawn = read(wanted.figures, "ranks-"), read(wanted.figures, "campaigns-")
    replayed = read(wanted.figures, "replays-")
    seconds = {path.name: truth_seconds(path) for path in tables}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    page = environment.get_template("sampling_study.md.j2").render(
        truth=[truth(path) for path in tables],
        targets=[target(row) for row in targets_of(ranked, drawn, replayed, seconds)],
        ranks=[ranks(study) for study in ranked.values()],
        published=[row for study in drawn.values() for row in published(study)],
        campaigns=[campaigns(study) for study in drawn.values()],
        replays=replays(replayed),
    )
    (DOCUMENTS / "sampling_study.md").write_text(page)
    recall_plot(
        [s for s in ranked.values() if s["which"] == "random"], DOCUMENTS / "sampling_study_recall.svg"
    )
    bits_plot(
        [(json.loads((path / "table.json").read_text()), images_of(path)) for path in tables],
        DOCUMENTS / "sampling_study_bits.svg",
    )
    print(DOCUMENTS / "sampling_study.md")


def read(figures: Path, start: str) -> dict[str, Any]:
    """The figures of every study, by its name."""
    files = sorted(figures.glob(f"{start}*.json"))
    return {file.stem.removeprefix(start): json.loads(file.read_text()) for file in files}


def images_of(tables: Path) -> list[Path]:
    """The tables that are there of the images drawn at random."""
    about = json.loads((tables / "table.json").read_text())
    return [path for image in about["random"] if (path := tables / f"{image}.npz").exists()]


def target(row: Target) -> dict[str, str]:
    found = "-" if row.found is None else f"{row.found:.4g}"
    wanted = f"{'at most' if row.at_most else 'at least'} {row.wanted:g}"
    return {"what": row.what, "wanted": wanted, "found": found, "verdict": row.verdict}


def summaries(tables: Path) -> list[dict[str, Any]]:
    """What was written of each image."""
    about = json.loads((tables / "table.json").read_text())
    files = [tables / f"{image}.json" for image in about["random"] + about["lowest"]]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def truth_seconds(tables: Path) -> float:
    """The median over images."""
    return float(median(row["truth_seconds"] for row in summaries(tables)))


def truth(tables: Path) -> dict[str, Any]:
    """A line of the first table: means over images, the median of the times."""
    about = json.loads((tables / "table.json").read_text())
    rows = summaries(tables)
    flips = [sum(row["flips"]) for row in rows]
    return {
        "model": about["model"],
        "registers": ", ".join(f"`{name}`" for name in about["registers"]),
        "images": len(rows),
        "flips": f"{sum(flips) / len(rows):,.0f}",
        "classes": f"{sum(row['classes'] for row in rows) / len(rows):,.0f}",
        "seconds": f"{truth_seconds(tables):.1f}",
    }


def ranks(study: dict[str, Any]) -> dict[str, Any]:
    """Of one network."""
    rows, flips = [], []
    for register, found in study["registers"].items():
        prevalence = found["classes"]["prevalence"]
        rows += [ranking(register, name, found["classes"]["scores"][name], prevalence) for name in OURS]
        scores = [found["flips"]["scores"][name] for name in (*BASELINES, *OURS)]
        cells = [f"{score['auprc']:.3f} / {score['variance_reduction']['0.5']:.1f}" for score in scores]
        flips.append({"register": register, "neyman": f"{found['flips']['neyman']:.1f}", "cells": cells})
    return {**study, "rows": rows, "flips": flips, "names": (*BASELINES, *OURS)}


def ranking(register: str, name: str, score: dict[str, Any], prevalence: float) -> dict[str, str]:
    lift = {n: score[f"precision_{n}"] / prevalence for n in (100, 1000)}
    reached = score["precision_1000"] / score["ceiling"]
    recall = dict(zip(SHARES, score["recall"], strict=True))
    return {
        "register": register,
        "prevalence": f"{100 * prevalence:.2g} %",
        "score": name,
        "precision_100": f"{score['precision_100']:.2f} ({lift[100]:,.0f}x)",
        "precision_1000": f"{score['precision_1000']:.2f} ({lift[1000]:,.0f}x, {100 * reached:.0f} % of what can be)",
        "r_precision": f"{score['r_precision']:.3f}",
        "recall": f"{recall[0.01]:.3f} / {recall[0.05]:.4f}",
        "auprc": f"{score['auprc']:.3f} ± {score['auprc_spread']:.3f}",
    }


def published(study: dict[str, Any]) -> list[dict[str, str]]:
    """Critical faults among the draws of two samplers, as multiples of the rate: the published measure."""
    return [
        {
            "model": study["model"],
            "register": study["register"],
            "name": name,
            "precision": f"{100 * found['critical'] / found['trials']:.2g} %",
            "lift": f"{found['critical'] / found['trials'] / study['truth']:.1f}",
        }
        for name, found in study["samplers"].items()
        if name.split()[0] in ("isimdl", "importance", "sweep") and "learn" not in name
    ]


def campaigns(study: dict[str, Any]) -> dict[str, Any]:
    """Of one network and register."""
    rows = [
        {
            "name": name,
            "runs": found["runs"],
            "critical": f"{found['critical']:,.0f}",
            "first": "never" if found["first_seconds"] is None else f"{found['first_seconds']:.3g} s",
            "trial": f"{found['reduction_a_trial']:.1f}",
            "ess": f"{found['ess_a_trial']:.1f}",
            "second": f"{found['reduction_a_second']:.2g}",
            "seconds": f"{found['seconds']:.0f}",
        }
        for name, found in study["samplers"].items()
    ]
    return {**study, "truth": f"{100 * study['truth']:.4f} %", "trials": f"{study['trials']:,}", "rows": rows}


def replays(studies: dict[str, Any]) -> dict[str, Any]:
    """Bias and coverage, by register."""
    rows = []
    for register, found in studies.items():
        for name, figures in found["samplers"].items():
            small, large = figures["1000"], figures["10000"]
            rows.append(
                {
                    "register": register,
                    "name": name,
                    "bias": f"{figures['bias_z']:.1f}",
                    "small": f"{100 * small['coverage']:.1f} %",
                    "large": f"{100 * large['coverage']:.1f} %",
                    "reduction": f"{small['variance_reduction']:.1f}",
                }
            )
    return {"count": f"{min(found['replays'] for found in studies.values()):,}", "rows": rows}


if __name__ == "__main__":
    main()

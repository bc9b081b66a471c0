"""docs/sampling_study.md from the figures of the study.

    .venv/bin/python tools/study/sampling_study.py FIGURES

FIGURES holds what tools/sampling_study put there: the tables, ranks-*.json, campaigns-*.json, replays.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

DOCUMENT = Path(__file__).parents[2] / "docs/sampling_study.md"
OTHERS = ("uniform", "bit-only", "isimdl", "gradient", "bfa")
OURS = ("gradients", "lookahead", "fitted")


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    wanted = parser.parse_args()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    page = environment.get_template("sampling_study.md.j2").render(
        seeds=wanted.seeds,
        truth=[truth(path.parent) for path in sorted(wanted.figures.glob("*/table.json"))],
        ranks=[ranks(json.loads(path.read_text())) for path in sorted(wanted.figures.glob("ranks-*.json"))],
        campaigns=[
            campaigns(json.loads(path.read_text()))
            for path in sorted(wanted.figures.glob("campaigns-*.json"))
        ],
        replays=replays(json.loads((wanted.figures / "replays.json").read_text())),
    )
    DOCUMENT.write_text(page)
    print(DOCUMENT)


def truth(tables: Path) -> dict[str, Any]:
    """A line of the first table: means over images, the median of the times."""
    about = json.loads((tables / "table.json").read_text())
    files = [tables / f"{image}.json" for image in about["random"] + about["lowest"]]
    rows = [json.loads(file.read_text()) for file in files if file.exists()]
    flips = [sum(row["flips"]) for row in rows]
    return {
        "model": about["model"],
        "registers": ", ".join(f"`{name}`" for name in about["registers"]),
        "images": len(rows),
        "flips": f"{sum(flips) / len(rows):,.0f}",
        "classes": f"{sum(row['classes'] for row in rows) / len(rows):,.0f}",
        "seconds": f"{median(row['truth_seconds'] for row in rows):.1f}",
    }


def ranks(study: dict[str, Any]) -> dict[str, Any]:
    """Of one network."""
    rows, flips = [], []
    for register, found in study["registers"].items():
        prevalence = found["classes"]["prevalence"]
        rows += [ranking(register, name, found["classes"]["scores"][name], prevalence) for name in OURS]
        scores = found["flips"]["scores"]
        cells = [f"{scores[n]['auprc']:.3f} / {scores[n]['variance_reduction']:.1f}" for n in OTHERS + OURS]
        flips.append({"register": register, "neyman": f"{found['flips']['neyman']:.1f}", "cells": cells})
    return {**study, "rows": rows, "flips": flips, "names": OTHERS + OURS}


def ranking(register: str, name: str, score: dict[str, float], prevalence: float) -> dict[str, str]:
    lift = {n: score[f"precision_{n}"] / prevalence for n in (100, 1000)}
    reached = score["precision_1000"] / score["ceiling"]
    return {
        "register": register,
        "prevalence": f"{100 * prevalence:.2g} %",
        "score": name,
        "precision_100": f"{score['precision_100']:.2f} ({lift[100]:,.0f}x)",
        "precision_1000": f"{score['precision_1000']:.2f} ({lift[1000]:,.0f}x, {100 * reached:.0f} % of what can be)",
        "r_precision": f"{score['r_precision']:.3f}",
        "recall": f"{score['recall_1']:.3f} / {score['recall_5']:.3f}",
        "auprc": f"{score['auprc']:.3f} ± {score['auprc_spread']:.3f}",
    }


def campaigns(study: dict[str, Any]) -> dict[str, Any]:
    """Of one network and register."""
    rows = [
        {
            "name": name,
            "critical": f"{found['critical']:,.0f}",
            "first": "never" if found["first_seconds"] is None else f"{found['first_seconds']:.2g} s",
            "trial": f"{found['reduction_a_trial']:.1f}",
            "second": f"{found['reduction_a_second']:.1f}",
            "coverage": f"{100 * found['coverage']:.0f} %",
        }
        for name, found in study["samplers"].items()
    ]
    return {**study, "truth": f"{100 * study['truth']:.4f} %", "trials": f"{study['trials']:,}", "rows": rows}


def replays(study: dict[str, Any]) -> dict[str, Any]:
    """Bias and coverage."""
    rows = []
    for register, found in study["registers"].items():
        for name, figures in found["samplers"].items():
            small, large = figures["1000"], figures["10000"]
            rows.append(
                {
                    "register": register,
                    "name": name,
                    "bias": f"{small['bias_z']:.1f}",
                    "small": f"{100 * small['coverage']:.1f} %",
                    "large": f"{100 * large['coverage']:.1f} %",
                    "reduction": f"{small['variance_reduction']:.1f}",
                }
            )
    return {"count": f"{study['replays']:,}", "rows": rows}


if __name__ == "__main__":
    main()

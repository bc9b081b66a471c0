"""The figures of docs/sampling_study.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from ranking import SHARES

plt.rcParams.update({"svg.hashsalt": "study", "font.size": 9})


def recall_plot(studies: list[dict[str, Any]], file: Path) -> None:
    """Share of the critical flips found among the first flips by each score, a panel a network and register."""
    panels = [
        (study["model"], name, found) for study in studies for name, found in study["registers"].items()
    ]
    rows = -(-len(panels) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(9, 2.8 * rows), sharex=True, sharey=True, squeeze=False)
    for axis, (model, register, found) in zip(axes.flat, panels, strict=False):
        for name, score in found["flips"]["scores"].items():
            ours = name in found["classes"]["scores"]
            axis.plot(
                SHARES, score["recall"], "-" if ours else "--", label=name, linewidth=1.6 if ours else 1
            )
        axis.set(xscale="log", title=f"{model}\n{register}")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("share of the flips judged, ranked by score")
    figure.supylabel("share of the critical flips found")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=8)
    figure.set_layout_engine("constrained")
    figure.savefig(file, metadata={"Date": None})


def bits_plot(tables: list[tuple[dict[str, Any], list[Path]]], file: Path) -> None:
    """Share of critical flips by bit, a line a network and register. tables: what table.json says, and the images."""
    figure, axis = plt.subplots(figsize=(9, 3.2), layout="constrained")
    for about, images in tables:
        by_bit = np.sum([np.load(image)["by_bit"].sum(axis=1) for image in images], axis=0)
        for name, counts in zip(about["registers"], by_bit, strict=True):
            bits = np.flatnonzero(counts[:, 0])
            share = np.where(counts[bits, 1] > 0, counts[bits, 1] / counts[bits, 0], np.nan)
            axis.plot(bits, share, "o-", markersize=3, label=f"{about['model'].split('_')[0]} {name}")
    axis.set(yscale="log", xlabel="bit", ylabel="critical share of the flips")
    axis.grid(alpha=0.3)
    axis.legend(ncols=3, fontsize=8)
    figure.savefig(file, metadata={"Date": None})

"""The QLinear form means what the file means: its outputs are the file's, run by ONNX Runtime unoptimised, bit for bit
where the file holds integer operators; in QDQ files, which round in float, within a few steps of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from random_graphs import Unfit, seeded_graph

from emulator.campaign.inputs import random_samples
from emulator.graph.load import Network, load
from emulator.graph.session import open_session

MODELS = Path(__file__).parents[1] / "data/models"
INTEGER = [path for path in sorted(MODELS.glob("*.onnx")) if "dynamic" in path.stem or "_qop_" in path.stem]
QDQ = [path for path in sorted(MODELS.glob("*_qdq*.onnx")) if not path.stem.startswith("a16w8")]
SEEDS = range(1000, 1060)


def outputs(network: Network) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(of the file, of the QLinear form), output after output, of some samples."""
    file, form = open_session(network.original), open_session(network.reference)
    for sample in random_samples(network.graph, 4, 1).inputs:
        feeds = network.graph.feeds(sample)
        yield from zip(file.run(None, feeds), form.run(None, feeds), strict=True)


@pytest.mark.parametrize("path", INTEGER, ids=lambda path: path.stem)
def test_integer_operators_are_rewritten_without_a_change(path: Path) -> None:
    for given, found in outputs(load(path)):
        np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize("path", QDQ, ids=lambda path: path.stem)
def test_quantised_float_operators_differ_by_rounding_only(path: Path) -> None:
    for given, found in outputs(load(path)):
        assert np.abs(given - found).max() <= 0.05 * np.abs(given).max()


def test_random_integer_graphs_are_rewritten_without_a_change(tmp_path: Path) -> None:
    compared = 0
    for seed in SEEDS:
        try:
            graph = seeded_graph(seed)
        except Unfit:
            continue
        if graph.steps[0].startswith(("dynamic", "qop")):
            path = tmp_path / f"{seed}.onnx"
            onnx.save(graph.model, path)
            for given, found in outputs(load(path)):
                np.testing.assert_array_equal(found, given, err_msg=f"seed {seed}: {graph.steps}")
            compared += 1
    assert compared > 30

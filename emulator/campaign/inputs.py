"""The samples of a campaign: an npz file or arrays, checked against the network before anything runs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig, BadData
from emulator.graph.feeds import Data, check_array, check_counts, drawn, read_npz
from emulator.graph.qgraph import InputSpec, QuantGraph, Sample

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """inputs: one array a sample, or for networks of several inputs one mapping a sample, as the network takes them,
    without the batch dimension; labels (samples,) int64 or None."""

    inputs: Sequence[Sample] = field(repr=False)
    labels: npt.NDArray[np.int64] | None = field(default=None, repr=False)
    path: str = ""
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.inputs)

    def settings(self) -> dict[str, Any]:
        """What identifies them in a manifest: the content; the path is for people."""
        return {"path": self.path, "sha256": self.sha256, "samples": len(self.inputs)}


def load_samples(source: Data, graph: QuantGraph, limit: int | None = None) -> Samples:
    """The arrays named like the model's inputs, for a model of one input else `inputs`, and `labels` if there; the
    first `limit` samples.

    Raises BadData for a missing file or array, a wrong shape or type, NaN or infinity, labels that are not one class a
    sample; BadConfig for a limit below 1.
    """
    if isinstance(source, np.ndarray):
        return _checked({"inputs": source}, graph, limit, "the array")
    if isinstance(source, Mapping):
        return _checked(source, graph, limit, "the arrays")
    path = Path(source)
    arrays = read_npz(path)
    return _checked(arrays, graph, limit, str(path.resolve()))


def samples_of(given: Data | Samples, graph: QuantGraph, limit: int | None = None) -> Samples:
    """Samples as they are; else what `load_samples` finds."""
    return given if isinstance(given, Samples) else load_samples(given, graph, limit)


def random_samples(graph: QuantGraph, count: int, seed: int) -> Samples:
    """Samples for a network nobody gave data for, as `drawn` draws them."""
    rng = np.random.default_rng(seed)
    arrays = {spec.name: drawn(rng, (count, *spec.sample_shape), spec.dtype) for spec in graph.inputs}
    return _checked(arrays, graph, None, f"{count} random samples, seed {seed}")


def _checked(arrays: Arrays, graph: QuantGraph, limit: int | None, where: str) -> Samples:
    if limit is not None and limit < 1:
        raise BadConfig(f"limit={limit}; allowed: 1 or more samples. Leave it out to take all.")
    chosen = {spec.name: _array_of(arrays, graph, spec, where, limit) for spec in graph.inputs}
    check_counts(chosen, where)
    digest = hashlib.sha256()
    for array in chosen.values():
        digest.update(repr(array.shape).encode())
        digest.update(array.data.cast("B"))
    first = chosen[graph.inputs[0].name]
    count = len(first)
    if limit is not None and limit > count:
        warnings.warn(f"limit {limit:,}: {where} has {count:,} samples, all are taken", stacklevel=2)
    inputs: Sequence[Sample] = list(first)
    if len(chosen) > 1:
        inputs = [{name: array[i] for name, array in chosen.items()} for i in range(count)]
    return Samples(
        inputs=inputs,
        labels=_labels(arrays, graph, limit, where),
        path=where,
        sha256=digest.hexdigest(),
    )


def _array_of(
    arrays: Arrays, graph: QuantGraph, spec: InputSpec, where: str, limit: int | None
) -> npt.NDArray[Any]:
    """(samples, ...) of one input, the first `limit` samples, in the type the network takes."""
    name = spec.name if spec.name in arrays or len(graph.inputs) > 1 else "inputs"
    if name not in arrays:
        found = ", ".join(arrays) or "nothing"
        wanted = "an array " + " and one ".join(repr(each.name) for each in graph.inputs)
        alone = " or 'inputs'" if len(graph.inputs) == 1 else ""
        raise BadData(f"data {where!r} holds {found}; allowed: {wanted}{alone}. Rename it.")
    check_array(name, arrays[name], spec.sample_shape, spec.dtype, where)
    chosen = np.ascontiguousarray(arrays[name][:limit])
    # A copy where some are left out, so that those can go.
    return chosen if len(chosen) == len(arrays[name]) else chosen.copy()


def _labels(arrays: Arrays, graph: QuantGraph, limit: int | None, where: str) -> npt.NDArray[np.int64] | None:
    """(samples,), checked against all samples there are, not the first `limit` alone."""
    labels = arrays.get("labels")
    if labels is None:
        return None
    first = graph.inputs[0].name
    count = len(arrays[first if first in arrays else "inputs"])
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise BadData(
            f"{where}: labels {labels.dtype} of shape {labels.shape}; allowed: integers of shape ({count},), one a "
            "sample of the file. Give as many labels as samples, or leave them out."
        )
    if labels.min() < 0 or labels.max() >= graph.classes:
        raise BadData(
            f"{where}: labels {labels.min()} to {labels.max()}; allowed: 0 to {graph.classes - 1}, a class of the "
            f"model's answer {graph.output_name!r}. Count classes from 0 in the model's order, or leave labels out."
        )
    return labels[:limit].astype(np.int64)

"""The images of a campaign: an npz file or an array, checked against the network before anything runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig, BadData
from emulator.graph.qgraph import QuantGraph


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """inputs (samples, ...) float32 as the network takes them; labels (samples,) int64 or None."""

    inputs: npt.NDArray[np.float32] = field(repr=False)
    labels: npt.NDArray[np.int64] | None = field(default=None, repr=False)
    path: str = ""
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.inputs)

    def settings(self) -> dict[str, Any]:
        """What identifies them in a manifest: the content; the path is for people."""
        return {"path": self.path, "sha256": self.sha256, "samples": len(self.inputs)}


def load_samples(
    source: str | Path | npt.NDArray[Any], graph: QuantGraph, limit: int | None = None
) -> Samples:
    """The array named like the model's input, else `inputs`, and `labels` if there; the first `limit` samples.

    Raises BadData for a missing file or array, a wrong shape or type, NaN or infinity; BadConfig for a limit
    below 1.
    """
    if isinstance(source, np.ndarray):
        return _checked(source, None, graph, limit, "the array")
    path = Path(source)
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except FileNotFoundError:
        raise BadData(f"data {str(path)!r} is not a file; allowed: an .npz file. Check the path.") from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged file
        raise BadData(
            f"data {str(path)!r} can't be read as npz ({type(error).__name__}). Write it with numpy.savez."
        ) from error
    name = graph.input_name if graph.input_name in arrays else "inputs"
    if name not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise BadData(
            f"data {str(path)!r} holds {found}; allowed: an array {graph.input_name!r} or 'inputs'. Rename it."
        )
    return _checked(arrays[name], arrays.get("labels"), graph, limit, str(path.resolve()))


def _checked(
    inputs: npt.NDArray[Any],
    labels: npt.NDArray[Any] | None,
    graph: QuantGraph,
    limit: int | None,
    where: str,
) -> Samples:
    if limit is not None and limit < 1:
        raise BadConfig(f"limit={limit}; allowed: 1 or more samples. Leave it out to take all.")
    shape = graph.tensors[graph.input].shape[1:]
    if inputs.shape[1:] != shape or inputs.ndim != len(shape) + 1 or len(inputs) == 0:
        raise BadData(
            f"{where}: inputs of shape {inputs.shape}; allowed: (samples, {', '.join(map(str, shape))}) with at "
            "least one sample. Preprocess them as the model expects."
        )
    if inputs.dtype != np.float32:
        raise BadData(
            f"{where}: inputs are {inputs.dtype}; allowed: float32, as the model takes them. "
            "Preprocess and convert with .astype(numpy.float32)."
        )
    chosen = np.ascontiguousarray(inputs[:limit])
    bad = np.flatnonzero(~np.isfinite(chosen.reshape(len(chosen), -1)).all(axis=1))
    if len(bad):
        raise BadData(
            f"{where}: sample {bad[0]} holds NaN or infinity; allowed: finite numbers. Clean the data."
        )
    if labels is not None:
        if labels.shape != (len(inputs),) or not np.issubdtype(labels.dtype, np.integer):
            raise BadData(
                f"{where}: labels {labels.dtype} of shape {labels.shape}; allowed: integers, one a sample."
            )
        labels = labels[:limit].astype(np.int64)
    digest = hashlib.sha256(repr(chosen.shape).encode() + chosen.tobytes()).hexdigest()
    return Samples(inputs=chosen, labels=labels, path=where, sha256=digest)

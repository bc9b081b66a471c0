"""The trials that a sampler that learns looks back at, from the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.campaign.parts import read_part
from emulator.campaign.results import Results
from emulator.campaign.trial import Columns
from emulator.faults.fault import FaultBatch
from emulator.sampling.past import Past, no_past

_COLUMNS = ("layer", "register", "row", "col", "bits", "cycle", "tile", "input_id", "sdc1", "log_weight")


def read_past(directory: Path, array: ArraySpec, chunks: int) -> Past:
    """All trials of the first `chunks` chunks, which are finished."""
    return past_of([read_part(directory, chunk, _COLUMNS) for chunk in range(chunks)], array)


def past_of_results(results: Results, array: ArraySpec) -> Past:
    """All trials of a campaign."""
    return past_of([{name: results.column(name) for name in _COLUMNS}], array)


def past_of(parts: Sequence[Columns], array: ArraySpec) -> Past:
    """The trials of some chunks, none or more."""
    if not parts:
        return no_past()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    code = {entry.name: entry.code for entry in inventory(array)}
    faults = FaultBatch(
        layer=columns["layer"].astype(np.int64),
        register=np.array([code[name] for name in columns["register"].tolist()], np.int64),
        row=columns["row"].astype(np.int64),
        col=columns["col"].astype(np.int64),
        bit=np.log2(columns["bits"].astype(np.float64)).astype(np.int64),
        cycle=columns["cycle"].astype(np.int64),
        fold=columns["tile"].astype(np.int64),
    )
    return Past(
        image=columns["input_id"].astype(np.int64),
        faults=faults,
        critical=columns["sdc1"].astype(np.bool_),
        weight=np.exp(columns["log_weight"].astype(np.float64)),
    )

"""A campaign on disk, of made-up trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.campaign.manifest import SCHEMA, campaign_digest
from emulator.campaign.parts import encoded_part, write_part
from emulator.campaign.schema import COLUMNS, MASKED_AT

MANIFEST = {
    "schema": SCHEMA,
    "model": {"name": "m", "sha256": "aa"},
    "registers": ("pe_a", "pe_b"),
    "seed": 7,
    "stop": {"max_trials": 10},
    "looked": False,
}
Columns = dict[str, npt.NDArray[Any]]


def trials(chunk: int, n: int = 50) -> Columns:
    rng = np.random.default_rng(chunk)
    text = {"masked_at": np.array(MASKED_AT)[rng.integers(0, 6, n)], "register": np.full(n, f"pe_{chunk}")}
    columns: Columns = {}
    for column in COLUMNS:
        if column.type in ("string", "dictionary"):
            columns[column.name] = text.get(column.name, np.full(n, "x", dtype=object))
        elif column.type == "bool":
            columns[column.name] = rng.random(n) < 0.5
        else:
            columns[column.name] = rng.integers(0, 100, n).astype(column.type)
    columns["trial_id"] = chunk * 50 + np.arange(n)
    columns["chunk"] = np.full(n, chunk)
    columns["until_cycle"] = np.ma.masked_array(np.arange(n) - 1, np.arange(n) % 2 == 0)
    return columns


def write(directory: Path, chunk: int, columns: Columns) -> None:
    write_part(directory, chunk, encoded_part(chunk, columns, campaign_digest(directory)))

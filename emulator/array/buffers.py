"""Where operand tiles lie in the buffers, and when each row is loaded and read.

A buffer has two halves; an epoch (the folds that may share tiles) uses one, the next epoch the other. Where all
tiles of an epoch fit in a half they stay for the epoch (weight and activation reuse), otherwise each fold is an
epoch of its own and loads its tile anew. The row read in slot s is written one tile earlier, in cycle
s - min(rows of this tile, rows of the one before); the first tile is there when the layer starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from emulator.array.host import ACT_BUFFER
from emulator.array.tiling import Schedule
from emulator.errors import BadConfig

Ints = npt.NDArray[np.int64]

BEFORE_START = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Residence:
    """One buffer through a layer; one entry a fold, except by_source.

    Row j of a fold's tile lies in buffer row address + j, is row source + j of host memory, and is read in slot
    read_slot + j. loaded_by is the fold that loaded it, the fold itself where it is not reused; that fold wrote it
    at the end of cycle load_cycle + j (BEFORE_START - rows or less: before the layer).
    """

    rows: Ints
    address: Ints
    source: Ints
    read_slot: Ints
    loaded_by: Ints
    load_cycle: Ints
    # For each fold that loads: the last fold that reads what it loaded.
    last_reader: Ints = field(repr=False)


@lru_cache(maxsize=1024)
def residence(plan: Schedule, buffer: int) -> Residence:
    """The tiles of ACT_BUFFER or WGT_BUFFER; raises BadConfig where a tile does not fit half the buffer."""
    rows, read_slot, tile, epoch = _tiles(plan, buffer)
    capacity = plan.spec.act_buffer_rows if buffer == ACT_BUFFER else plan.spec.wgt_buffer_rows
    _check_capacity(plan, buffer, int(rows.max()), capacity // 2)
    if _largest_epoch(rows, tile, epoch) > capacity // 2:
        epoch = np.arange(plan.folds)
    address, loaded_by = _addresses(rows, tile, epoch, capacity // 2)
    lead = np.minimum(rows, np.concatenate((rows[:1], rows[:-1])))
    load_cycle = read_slot - lead
    load_cycle[0] = BEFORE_START - rows[0]
    last_reader = np.arange(plan.folds)
    np.maximum.at(last_reader, loaded_by, np.arange(plan.folds))
    return Residence(
        rows=rows,
        address=address,
        source=_sources(rows, tile),
        read_slot=read_slot,
        loaded_by=loaded_by,
        load_cycle=load_cycle[loaded_by],
        last_reader=last_reader,
    )


def _tiles(plan: Schedule, buffer: int) -> tuple[Ints, Ints, Ints, Ints]:
    """(rows, read slot, tile id, epoch) of each fold."""
    if buffer == ACT_BUFFER:
        rows, read_slot = plan.slots, plan.first_slot
        parts = (plan.group, plan.m_start, plan.k_start)
        shared = (plan.group, plan.m_start) if plan.output_stationary else (plan.group,)
    else:
        streams = plan.output_stationary
        rows = plan.slots if streams else np.full_like(plan.slots, plan.spec.rows)
        read_slot = plan.first_slot if streams else plan.first_slot - plan.spec.rows
        parts = (plan.group, plan.n_start, plan.k_start)
        shared = (plan.group,) if streams else (plan.group, plan.n_start)
    return rows, read_slot, _identity(*parts), _identity(*shared)


def _identity(*columns: Ints) -> Ints:
    """Equal numbers for equal rows of the columns."""
    _, inverse = np.unique(np.stack(columns), axis=1, return_inverse=True)
    return inverse.reshape(-1)


def _sources(rows: Ints, tile: Ints) -> Ints:
    """The first host memory row of each fold's tile; tiles lie in the order of their ids."""
    _, first, inverse = np.unique(tile, return_index=True, return_inverse=True)
    starts = np.cumsum(rows[first]) - rows[first]
    return starts[inverse.reshape(-1)]


def _largest_epoch(rows: Ints, tile: Ints, epoch: Ints) -> int:
    first = np.unique(np.stack((epoch, tile)), axis=1, return_index=True)[1]
    return int(np.bincount(epoch[first], rows[first]).max())


def _addresses(rows: Ints, tile: Ints, epoch: Ints, half: int) -> tuple[Ints, Ints]:
    """(address, fold that loads) of each fold: tiles in the order of their first use, halves in turn."""
    address, loaded_by = np.empty_like(rows), np.empty_like(rows)
    where: dict[int, tuple[int, int]] = {}
    current, side, used = None, 1, 0
    for fold, (size, name, of) in enumerate(zip(rows.tolist(), tile.tolist(), epoch.tolist(), strict=True)):
        if of != current:
            current, side, used = of, 1 - side, 0
            where = {}
        if name not in where:
            where[name] = (side * half + used, fold)
            used += size
        address[fold], loaded_by[fold] = where[name]
    return address, loaded_by


def _check_capacity(plan: Schedule, buffer: int, rows: int, half: int) -> None:
    if rows <= half:
        return
    name = "act_buffer_rows" if buffer == ACT_BUFFER else "wgt_buffer_rows"
    raise BadConfig(
        f"ArraySpec: a tile of {plan.shape} takes {rows} rows; allowed: {half}, half of {name} of "
        f"{plan.spec.name!r}. Set {name}={2 * rows} or more, or fewer acc_rows."
    )


def buffer_rows_loaded(plan: Schedule, buffer: int) -> npt.NDArray[np.int64]:
    """(loads, 4) of host.py's load table, in no order: every row of every tile a fold loads."""
    home = residence(plan, buffer)
    loads = np.flatnonzero(home.loaded_by == np.arange(plan.folds))
    size = home.rows[loads]
    fold = np.repeat(loads, size)
    j = np.arange(len(fold)) - np.repeat(np.cumsum(size) - size, size)
    first = home.load_cycle[fold] + np.where(fold == 0, 0, j)
    return np.stack(
        (first, np.full_like(fold, buffer), home.address[fold] + j, home.source[fold] + j), axis=1
    )

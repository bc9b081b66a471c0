"""From a site to the operands it touches: NumPy over all faults of a register class."""

from __future__ import annotations

import numpy as np

from emulator.array.buffers import residence
from emulator.array.closed_form.output_stationary import COMING_IN, IN_BANKS, LEAVING, ON_ITS_WAY, SUMMING
from emulator.array.closed_form.records import DEAD, Ints, Touched
from emulator.array.exposure.lifetime import Sites, StruckWords
from emulator.array.exposure.memory import first_sum_cycle
from emulator.array.host import ACT_BUFFER, WGT_BUFFER
from emulator.array.registers import Register
from emulator.array.tiling import Schedule


def arrival(s: Schedule, name: str, at: Sites | StruckWords) -> tuple[Ints, Ints, Ints]:
    """(slot, row, col): the row slot that a site works on, and the PE it is at or next to; row R is below the
    array."""
    rows, lag = s.spec.rows, s.spec.drain_cycles
    zero, below = np.zeros_like(at.row), np.full_like(at.row, rows)
    if name.startswith("pe_"):
        return at.cycle - 2 - at.row - at.col, at.row, at.col
    if name.startswith(("buf_", "skew_")):
        slot = at.cycle - 1 - (at.row - at.col if name.startswith("skew") else 0)
        return (slot, at.row, zero) if name.endswith("_a") else (slot, zero, at.row)
    if name.startswith("out_"):
        return at.cycle - rows - 2 - at.col, below, at.col
    if name == "deskew_data":
        return at.cycle - lag + at.col, below, at.row
    stage = {"write_data": 1, "write_bias": 1, "write_sum": 2}[name]
    return at.cycle - lag - stage, below, at.col


def activation(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """Row m (or column, output-stationary) of the activation; the wrong value travels on through columns
    [first, last)."""
    slot, row, col = arrival(s, reg.name, at)
    step = slot - s.first_slot[fold]
    down, along = (row, step) if s.output_stationary else (step, row)
    return touched(
        *(s, reg, at, fold),
        m=s.m_start[fold] + down,
        k=s.k_start[fold] + along,
        first=s.n_start[fold] + col,
        last=(s.n_start + s.n_size)[fold],
    )


def streamed_weight(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """Output-stationary: weight (k, n) travels on through rows [first, last)."""
    slot, row, col = arrival(s, reg.name, at)
    return touched(
        *(s, reg, at, fold),
        k=s.k_start[fold] + slot - s.first_slot[fold],
        n=s.n_start[fold] + col,
        first=s.m_start[fold] + row,
        last=(s.m_start + s.m_size)[fold],
    )


def stationary_weight(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """Weight (k, n) from the row that PE row works on, or from the first one while it is shifted in."""
    slot, row, col = arrival(s, reg.name, at)
    shifting = s.first_slot[fold] - slot + row - (0 if reg.name in ("pe_c1", "pe_c2") else 1)
    resting = slot >= s.first_slot[fold]
    return touched(
        *(s, reg, at, fold),
        k=s.k_start[fold] + np.where(resting, row, shifting),
        n=s.n_start[fold] + col,
        first=s.m_start[fold] + np.where(resting, slot - s.first_slot[fold], 0),
        last=(s.m_start + s.m_size)[fold],
    )


def partial_sum(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """Element (m, n): the flipped word holds the products [first, k); those of [k, last) are to come."""
    slot, row, col = arrival(s, reg.name, at)
    return touched(
        *(s, reg, at, fold),
        m=(s.m_start - s.first_slot)[fold] + slot,
        k=s.k_start[fold] + np.minimum(row, s.k_size[fold]),
        n=s.n_start[fold] + col,
        first=s.k_start[fold],
        last=(s.k_start + s.k_size)[fold],
    )


def stationary_element(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """Output-stationary: the element that a bank, a chain register or a result register holds."""
    slot, row, col = arrival(s, reg.name, at)
    bank = reg.name in ("pe_c1", "pe_c2")
    since, end = slot - s.first_slot[fold], slot - (s.first_slot + s.slots)[fold]
    # A word moves down one row a slot; it is in the chain one slot before it is in the bank.
    coming = row - since - (0 if bank else 1)
    leaving = row - end - (0 if bank else 1)
    q = np.where(end >= 0, leaving, np.where(since < 0, coming, row))
    stage = np.where(end < 0, np.where(since < 0, COMING_IN, SUMMING), IN_BANKS if bank else ON_ITS_WAY)
    stage = np.where(bank & (end == 0), LEAVING, stage) if bank else stage
    return touched(
        *(s, reg, at, fold),
        m=s.m_start[fold] + q,
        k=s.k_start[fold] + np.clip(since, 0, s.k_size[fold]),
        n=s.n_start[fold] + col,
        first=s.k_start[fold],
        last=(s.k_start + s.k_size)[fold],
        stage=stage,
    )


def running_sum(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """Element (m, n), which holds the bias and the products [0, last); last is -1 for the bias alone."""
    depth = s.k_start + s.k_size
    if reg.name == "accumulator":
        m, col = at.row % (s.spec.acc_rows // 2), at.col
        last = depth[_fold_in_memory(s, fold, m, at.cycle)]
    elif reg.name == "requant_acc":
        block = np.searchsorted(s.last_folds, fold)
        m, col, last = at.cycle - 1 - s.drain_start[block], at.col, depth[fold]
    else:
        slot, _, col = arrival(s, reg.name, at)
        leaving = (s.first_slot + s.slots + s.spec.rows - 1)[fold] - slot
        m = leaving if s.output_stationary else slot - s.first_slot[fold]
        last = depth[fold] if reg.name == "write_sum" else np.full_like(fold, -1)
    return touched(*(s, reg, at, fold), m=s.m_start[fold] + m, n=s.n_start[fold] + col, last=last)


def _fold_in_memory(s: Schedule, fold: Ints, m: Ints, cycle: Ints) -> Ints:
    """The last fold of the block whose sum row m of the memory holds in `cycle`; `fold` is the block's last."""
    first = np.searchsorted(s.first_slot, s.block_slot[fold])
    since = cycle - first_sum_cycle(s, first, m)
    uniform = first + np.maximum(since, 0) // s.slots[first]
    # A dead site (fold -1) may index anything that exists.
    return np.where(cycle >= first_sum_cycle(s, fold, m), fold, np.clip(uniform, 0, np.maximum(fold - 1, 0)))


def buffered_activation(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """A wrong activation in the buffer: every column of the folds that still read it."""
    home = residence(s, ACT_BUFFER)
    j, reader = _row_and_reader(s, ACT_BUFFER, at, fold)
    down, along = (at.col, j) if s.output_stationary else (j, at.col)
    return touched(
        *(s, reg, at, fold),
        m=s.m_start[fold] + down,
        k=s.k_start[fold] + along,
        first=s.n_start[reader],
        last=(s.n_start + s.n_size)[home.last_reader[fold]],
    )


def buffered_weight(s: Schedule, reg: Register, at: StruckWords, fold: Ints) -> Touched:
    """A wrong weight in the buffer: every row of the folds that still read it."""
    home = residence(s, WGT_BUFFER)
    j, reader = _row_and_reader(s, WGT_BUFFER, at, fold)
    along = j if s.output_stationary else s.spec.rows - 1 - j
    return touched(
        *(s, reg, at, fold),
        k=s.k_start[fold] + along,
        n=s.n_start[fold] + at.col,
        first=s.m_start[reader],
        last=(s.m_start + s.m_size)[home.last_reader[fold]],
    )


def _row_and_reader(s: Schedule, buffer: int, at: StruckWords, fold: Ints) -> tuple[Ints, Ints]:
    """The tile's row of each site, and the first fold that reads it in the site's cycle or later."""
    home = residence(s, buffer)
    j = at.row - home.address[fold]
    reader = fold.copy()
    for loads in np.unique(fold[fold >= 0]).tolist():
        readers = np.flatnonzero(home.loaded_by == loads)
        of = fold == loads
        next_read = np.searchsorted(home.read_slot[readers], at.cycle[of] - j[of])
        reader[of] = readers[np.minimum(next_read, len(readers) - 1)]
    return j, reader


def touched(s: Schedule, reg: Register, at: StruckWords, fold: Ints, **known: Ints) -> Touched:
    """The record, zeros where nothing is known; dead sites are marked."""
    zero = np.zeros_like(fold)
    rows = np.where(at.row == 0, reg.first_row_bits, reg.bits)
    return Touched(
        group=np.where(fold >= 0, s.group[fold], DEAD),
        **{name: known.get(name, zero) for name in ("m", "k", "n", "first", "last")},
        bit=at.bit,
        width=rows,
        stage=known.get("stage", zero),
        fault=np.concatenate(([0], np.cumsum(at.bits))),
    )

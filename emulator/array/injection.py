"""How an Upset reaches the word of the state it strikes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emulator.array.bits import wrap_signed
from emulator.array.home import IN_ACT_BUFFER, IN_STATE, IN_WGT_BUFFER, NOWHERE
from emulator.array.host import Operand, Table, Words
from emulator.array.layout import Grid
from emulator.array.registers import check_upset, register
from emulator.array.spec import ArraySpec
from emulator.array.upset import FLIP, KINDS, Upset
from emulator.jit import Int, stage

# Columns of an encoded upset: lsb is where the register begins in its word, col its column in a buffer row.
ADDRESS, PLACE, MASK, KIND, FIRST, LAST, BITS, SIGNED, LSB, COL = range(10)


def encode_upsets(spec: ArraySpec, g: Grid, upsets: Sequence[Upset]) -> Table:
    """(upsets, 10) int64, the columns named above; raises BadConfig for a place outside the array."""
    table = np.empty((len(upsets), 10), np.int64)
    for entry, upset in zip(table, upsets, strict=True):
        check_upset(spec, upset)
        struck = register(spec, upset.register)
        entry[ADDRESS], entry[PLACE] = struck.home.locate(g, upset.row, upset.col)
        last = upset.until_cycle if upset.until_cycle is not None else np.iinfo(np.int64).max
        entry[MASK] = sum(1 << bit for bit in upset.bits)
        entry[KIND] = KINDS.index(upset.kind)
        entry[FIRST] = upset.cycle
        entry[LAST] = upset.cycle if upset.kind == FLIP else last
        entry[BITS], entry[SIGNED] = struck.width(upset.row), struck.signed
        entry[LSB], entry[COL] = struck.lsb, upset.col
    return table


@stage
def struck_word(word: Int, upsets: Table, i: int) -> Int:
    """What upset `i` makes of a register's word."""
    mask = upsets[i, MASK] << upsets[i, LSB]
    if upsets[i, KIND] == 0:
        word ^= mask
    elif upsets[i, KIND] == 1:
        word &= ~mask
    else:
        word |= mask
    return wrap_signed(word, upsets[i, BITS]) if upsets[i, SIGNED] != 0 else word & 0xFFFFFFFF


@stage
def apply_upsets(
    state: Words, g: Grid, act: Operand, wgt: Operand, upsets: Table, patches: Words, cycle: int
) -> None:
    """Overwrite what the registers hold at the start of `cycle`; act and wgt are flat."""
    for i in range(upsets.shape[0]):
        if cycle < upsets[i, FIRST] or cycle > upsets[i, LAST] or upsets[i, PLACE] == NOWHERE:
            continue
        address, place = upsets[i, ADDRESS], upsets[i, PLACE]
        if place == IN_ACT_BUFFER:
            origin = state[g.loaded + address]
            strike_buffer(act, origin * g.rows + upsets[i, COL], upsets, patches, i)
        elif place == IN_WGT_BUFFER:
            origin = state[g.loaded + g.act_rows + address]
            strike_buffer(wgt, origin * g.cols + upsets[i, COL], upsets, patches, i)
        else:
            if place != IN_STATE:
                address += ((cycle - 1 - place) & (g.depth - 1)) * g.lanes
            state[address] = struck_word(np.int64(state[address]), upsets, i)


@stage
def strike_buffer(source: Operand, index: Int, upsets: Table, patches: Words, i: int) -> None:
    """patches[i] takes the bits in which upset `i` changes its buffer word, which was source[index] (zero if
    negative), on top of the earlier upsets of that word: the buffers themselves only know which row of host memory
    they hold."""
    word = np.int64(source[index]) if index >= 0 else np.int64(0)
    for u in range(upsets.shape[0]):
        same = upsets[u, PLACE] == upsets[i, PLACE] and upsets[u, ADDRESS] == upsets[i, ADDRESS]
        if same and upsets[u, COL] == upsets[i, COL]:
            word ^= patches[u]
    patches[i] ^= word ^ struck_word(word, upsets, i)

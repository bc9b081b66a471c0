"""What checksums make of faults: the syndromes of sparse errors, what they locate, and what a correction leaves
wrong.

The syndrome of a row or column is the sum, modulo 2^32, of the errors in it (`checksum`), so that errors that cancel
in a row and in a column are missed by both. The **corrector** knows the syndromes and nothing else. Of each product
it takes back

- syndrome of column n at (r, n), for each column, if r is the only row with a syndrome, or the only row there is;
- syndrome of row m at (m, c), for each row, if c is the only column with a syndrome, or the only column there is;

and gives up (a DUE) where there is a syndrome and neither holds. So a product is put right if and only if its errors
lie in one row, or in one column, whose syndrome is not 0, or that is the only one there is; errors in one row that
cancel in its sum are seen by columns, but nothing says in which row they are. It **miscorrects** where errors lie in
several rows and columns, and all but one row, or all but one column, cancel: afterwards every checksum agrees, so
that checking again does not tell. With several products in a layer (groups) one whose errors cancel altogether is
left wrong while another is put right: that counts as miscorrected too. What is left wrong is computed here error by
error, not assumed.

Rows alone, or columns alone, locate nothing, but where there is one column, or one row: a depthwise or a fully
connected layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.choices import one_of
from emulator.errors import BadData
from emulator.faults.strikes import UNSOLVED, Strikes
from emulator.gemm import GemmShape
from emulator.harden.checksum import CHECKS, Check

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Verdict(IntEnum):
    """What becomes of a fault. CLEAN: no wrong accumulator or output. MISSED: no syndrome, or out of reach.
    DETECTED: seen, and not corrected. CORRECTED: every accumulator is right again. MISCORRECTED: seen, taken for
    corrected, and wrong. HANG: the layer never completes, checksums or not."""

    CLEAN = 0
    MISSED = 1
    DETECTED = 2
    CORRECTED = 3
    MISCORRECTED = 4
    HANG = 5


class Shapes(NamedTuple):
    """(faults,) each: rows m and columns n of one product of the layer that each fault strikes, and how many there
    are."""

    m: Ints
    n: Ints
    groups: Ints


def shapes_of(layers: list[GemmShape], layer: Ints) -> Shapes:
    """Those of the layers that faults strike; layer (faults,): index into `layers`."""
    m, n, groups = np.array([(x.m, x.n, x.groups) for x in layers], np.int64).T[:, layer]
    return Shapes(m, n, groups)


class Lines(NamedTuple):
    """Rows, or columns, with a syndrome, (lines,) each, sorted: the fault, the group of its layer, the row or column
    in the group, and the syndrome, not 0."""

    fault: Ints
    group: Ints
    line: Ints
    syndrome: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checked:
    """Faults under checksums. verdict (faults,): codes of Verdict. rows, columns: the lines with a syndrome, of the
    sums that are checked. left: the errors after correction; those of what is DETECTED are in a result that nobody
    uses."""

    verdict: npt.NDArray[np.int8]
    rows: Lines = field(repr=False)
    columns: Lines = field(repr=False)
    left: Strikes = field(repr=False)

    @property
    def seen(self) -> Flags:
        """(faults,) is there an alarm?"""
        seen: Flags = np.isin(self.verdict, (Verdict.DETECTED, Verdict.CORRECTED, Verdict.MISCORRECTED))
        return seen


def checked(strikes: Strikes, shapes: Shapes, check: Check, *, beyond: Flags | None = None) -> Checked:
    """What checksums make of each fault of a batch.

    beyond (faults,): those that strike behind the sums, out of reach, though their errors are written as those of
    accumulators; what is `at_output` is so anyway. Raises BadConfig for another check, BadData for other shapes, and
    for faults that were not struck.
    """
    one_of(CHECKS, check, "check")
    _check_struck(strikes, shapes)
    out = strikes.at_output if beyond is None else strikes.at_output | beyond
    errors = _errors(strikes, shapes)
    within = errors[:, ~out[errors[FAULT]]]
    nothing = within[:, :0]
    rows = Lines(*_sums(within[[FAULT, GROUP, ROW, DELTA]] if check != "columns" else nothing[:4]))
    columns = Lines(*_sums(within[[FAULT, GROUP, COLUMN, DELTA]] if check != "rows" else nothing[:4]))
    taken, stuck = _correction(rows, columns, shapes)
    left = _struck_by(strikes, shapes, _sums(np.concatenate((errors, taken), axis=1)))
    verdict = _verdicts(strikes, np.concatenate((rows.fault, columns.fault)), stuck, left)
    return Checked(verdict=verdict, rows=rows, columns=columns, left=left)


FAULT, GROUP, ROW, COLUMN, DELTA = range(5)
"""Rows of a table of errors, (5, errors) int64; the column is that in the group."""


def _errors(strikes: Strikes, shapes: Shapes) -> Ints:
    fault = np.repeat(np.arange(len(strikes.hang)), np.diff(strikes.ptr))
    group, column = np.divmod(strikes.n.astype(np.int64), shapes.n[fault])
    return np.stack((fault, group, strikes.m, column, strikes.delta))


def _sums(table: Ints) -> Ints:
    """The last row of a table summed, modulo 2^32, over equal columns of the others, which are sorted; without those
    that are 0."""
    table = table[:, np.lexsort(table[-2::-1])]
    first = np.flatnonzero((np.diff(table[:-1], axis=1, prepend=-1) != 0).any(axis=0))
    sums = np.add.reduceat(table[-1], first).astype(np.int32) if len(first) else table[-1]
    summed = np.concatenate((table[:-1, first], sums[np.newaxis].astype(np.int64)))
    return summed[:, sums != 0]


def _correction(rows: Lines, columns: Lines, shapes: Shapes) -> tuple[Ints, Ints]:
    """The errors that the corrector takes back, negated, as a table; and the faults of which it gives up a product."""
    product = np.concatenate(
        [lines.fault * (1 + int(shapes.groups.max(initial=0))) + lines.group for lines in (rows, columns)]
    )
    _, first, of = np.unique(product, return_index=True, return_inverse=True)
    fault = np.concatenate((rows.fault, columns.fault))[first]
    of_row, of_column = of[: len(rows.fault)], of[len(rows.fault) :]
    count_rows, count_columns = (np.bincount(x, minlength=len(first)) for x in (of_row, of_column))
    # The only line with a syndrome, where there is one; 0 is the only one there is.
    row, column = np.zeros((2, len(first)), np.int64)
    row[of_row], column[of_column] = rows.line, columns.line
    in_row = (count_columns > 0) & ((count_rows == 1) | (shapes.m[fault] == 1))
    in_column = (count_rows > 0) & ((count_columns == 1) | (shapes.n[fault] == 1)) & ~in_row
    by_column = np.stack((columns.fault, columns.group, row[of_column], columns.line, -columns.syndrome))
    by_row = np.stack((rows.fault, rows.group, rows.line, column[of_row], -rows.syndrome))
    taken = np.concatenate((by_column[:, in_row[of_column]], by_row[:, in_column[of_row]]), axis=1)
    return taken, fault[~(in_row | in_column)]


def _struck_by(strikes: Strikes, shapes: Shapes, errors: Ints) -> Strikes:
    """The same faults with these errors, which are sorted."""
    fault, group, row, column, delta = errors
    return replace(
        strikes,
        ptr=np.searchsorted(fault, np.arange(len(strikes.hang) + 1)),
        m=row.astype(np.int32),
        n=(group * shapes.n[fault] + column).astype(np.int32),
        delta=delta.astype(np.int32),
    )


def _verdicts(strikes: Strikes, seen: Ints, stuck: Ints, left: Strikes) -> npt.NDArray[np.int8]:
    verdict = np.where(np.diff(strikes.ptr) > 0, Verdict.MISSED, Verdict.CLEAN).astype(np.int8)
    verdict[seen] = np.where(np.diff(left.ptr)[seen] > 0, Verdict.MISCORRECTED, Verdict.CORRECTED)
    verdict[stuck] = Verdict.DETECTED
    verdict[strikes.hang] = Verdict.HANG
    return verdict


def _check_struck(strikes: Strikes, shapes: Shapes) -> None:
    faults = len(strikes.hang)
    wrong = [len(part) for part in shapes if len(part) != faults]
    if wrong or (strikes.engine == UNSOLVED).any():
        unsolved = np.count_nonzero(strikes.engine == UNSOLVED)
        raise BadData(
            f"checksums: {faults} faults, shapes of {len(shapes.m)}, {unsolved} not struck; allowed: one shape a "
            "fault, and all struck. Strike them by cycles where there is no closed form."
        )

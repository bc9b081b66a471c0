"""Checksums of the matrix products of a network: algorithm-based fault tolerance, exact modulo 2^32.

A product has a checksum a row and a checksum a column (Huang & Abraham, IEEE Trans. Computers C-33(6), 1984, sec.
III), each computed a second way, from sums of the operands. Integers modulo 2^32 are a ring, so that both ways agree
exactly: a fault-free layer never gives an alarm, and a difference (`syndrome`) is the sum of the errors of its row
or column.

Where in the hardware. The sums of the accumulators are taken from the words that the drain reads, before
`requant_acc`. The other way is a small product of its own: activations x sums of the weights over n, which are
computed offline, and sums of the activations over m, which adders take when the activations are written, x weights.
It runs after the layer, with operands that are loaded anew, so that a transient fault strikes either the product or
its checksums, never both alike. What follows from this:

- Every register of the array up to the drain is within reach: buffers (`act_buffer`, `wgt_buffer`), edges, PEs
  (`pe_a`, `pe_b`, `pe_d`, `pe_c1`, `pe_c2`), sums, the accumulator memory, and control (sequencer, tags, `pe_valid`
  ...), whatever rows it loses, repeats or sends elsewhere. An error is missed only where those of each row and of
  each column cancel.
- `requant_acc` and what comes after it, is not: scales, results, output addresses. Nor is a hang, which is a DUE
  already.
- An operand that is wrong before the array loads it, in the memory outside, is wrong in both ways: the product is
  consistent.
- As columns and rows of the layer's own pass checksums cost less (`checksum_cost`), but there they read the same
  words. In a fold that holds all columns a wrong activation (`act_buffer`, `buf_a`, `skew_a`) spoils a row and its
  checksum alike, in one that holds all rows a wrong weight (`wgt_buffer`, `buf_d`, `skew_d`) a column and its
  checksum: consistent, and wrong. Only the other check sees it, and can't locate it. The coverage told here is not
  that of this variant.
- Faults of the checksums' own passes and adders are in nobody's fault space; they raise alarms, and spoil no result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from emulator.array.operands import Operands
from emulator.errors import BadData

Int32s = npt.NDArray[np.int32]
Check = Literal["rows", "columns", "both"]
"""Which sums are checked: those of the rows of a product, of its columns, or both."""
CHECKS: tuple[Check, ...] = get_args(Check)


class Located(NamedTuple):
    """Lines whose syndrome is not 0, (lines,) each: the group, the row or column in it, and the syndrome."""

    group: npt.NDArray[np.intp]
    line: npt.NDArray[np.intp]
    syndrome: Int32s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checksums:
    """Of a layer: rows (groups, m), columns (groups, n) int32, modulo 2^32. Groups, and the matrices of a stack,
    have their own."""

    rows: Int32s = field(repr=False)
    columns: Int32s = field(repr=False)

    def syndromes(self, reference: Checksums) -> Checksums:
        """What these are too large by, modulo 2^32: the sum of the errors of each row and column."""
        return Checksums(rows=self.rows - reference.rows, columns=self.columns - reference.columns)

    @property
    def wrong_rows(self) -> Located:
        """Of syndromes: the rows with errors that do not cancel."""
        return _located(self.rows)

    @property
    def wrong_columns(self) -> Located:
        """Of syndromes: the columns with errors that do not cancel."""
        return _located(self.columns)


def expected(operands: Operands) -> Checksums:
    """What the checksums of the product of `operands` must be, without the product.

    rows = act (sum of wgt over n) + sum of the bias over n; columns = (sum of act over m) wgt + sum of the bias over
    m.
    """
    act, wgt, bias = (x.astype(np.int64) for x in (operands.act, operands.wgt, operands.bias))
    groups, m, _ = act.shape
    starts = np.broadcast_to(bias if bias.ndim == 3 else bias[:, np.newaxis], (groups, m, bias.shape[-1]))
    rows = (act @ wgt.sum(axis=2)[:, :, np.newaxis])[:, :, 0] + starts.sum(axis=2)
    columns = (act.sum(axis=1)[:, np.newaxis] @ wgt)[:, 0] + starts.sum(axis=1)
    return Checksums(rows=_wrapped(rows), columns=_wrapped(columns))


def found(accumulators: Int32s, groups: int) -> Checksums:
    """The checksums of a product as it is: accumulators (m, groups * n) int32. Raises BadData for other shapes."""
    if accumulators.ndim != 2 or groups < 1 or accumulators.shape[1] % groups:
        raise BadData(
            f"accumulators {accumulators.shape} of {groups} groups; allowed: (m, groups * n). Pass those of one layer."
        )
    split = accumulators.astype(np.int64).reshape(len(accumulators), groups, -1)
    return Checksums(rows=_wrapped(split.sum(axis=2).T), columns=_wrapped(split.sum(axis=0)))


def _wrapped(sums: npt.NDArray[Any]) -> Int32s:
    """int64, itself wrapped where it had to be, modulo 2^32."""
    return np.ascontiguousarray(sums.astype(np.int32))


def _located(syndromes: Int32s) -> Located:
    group, line = np.nonzero(syndromes)
    return Located(group, line, syndromes[group, line])

"""The integers a layer brings to the array."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule
from emulator.errors import BadData
from emulator.gemm import GemmShape

Words = npt.NDArray[np.int8] | npt.NDArray[np.int16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Operands:
    """act (groups, m, k), wgt (groups, k, n) int8 or int16, bias (groups, n) or (groups, m, n) int32.

    preload (groups, m, n) int8 is what the array starts from where it has a register for it: the partial sums
    that enter at the top with the first k-fold (WS), or the words preloaded into the first k-block's PEs (OS);
    None is zero, as layers have it. Raises BadData for a wrong dtype or shape.
    """

    act: Words
    wgt: Words
    bias: npt.NDArray[np.int32]
    preload: npt.NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        if self.act.ndim != 3 or self.wgt.ndim != 3:
            raise BadData(
                f"Operands: act {self.act.shape}, wgt {self.wgt.shape}; allowed: (groups, m, k) and "
                "(groups, k, n). Add a leading axis of length 1 where there is one group."
            )
        groups, m, k = self.act.shape
        n = self.wgt.shape[2]
        _check("act", self.act, (np.int8, np.int16), (groups, m, k))
        _check("wgt", self.wgt, (np.int8, np.int16), (groups, k, n))
        _check("bias", self.bias, (np.int32,), (groups, n), (groups, m, n))
        if self.preload is not None:
            _check("preload", self.preload, (np.int8,), (groups, m, n))

    @property
    def shape(self) -> GemmShape:
        groups, m, k = self.act.shape
        return GemmShape(m=m, k=k, n=self.wgt.shape[2], groups=groups)

    @property
    def _bias_by_row(self) -> npt.NDArray[np.int32]:
        if self.bias.ndim == 3:
            return self.bias
        return np.broadcast_to(self.bias[:, np.newaxis, :], (*self.act.shape[:2], self.wgt.shape[2]))

    @cached_property
    def _exchanged(self) -> Streamed:
        act = cast(Words, np.ascontiguousarray(self.wgt.transpose(0, 2, 1)))
        wgt = cast(Words, np.ascontiguousarray(self.act.transpose(0, 2, 1)))
        bias = np.ascontiguousarray(self._bias_by_row.transpose(0, 2, 1))
        preload = None if self.preload is None else np.ascontiguousarray(self.preload.transpose(0, 2, 1))
        return Streamed(act=act, wgt=wgt, bias=bias, preload=preload)

    @cached_property
    def _as_given(self) -> Streamed:
        return Streamed(act=self.act, wgt=self.wgt, bias=self._bias_by_row, preload=self.preload)

    def streamed(self, spec: ArraySpec) -> Streamed:
        """As the array sees them: exchanged where it is input-stationary."""
        return self._exchanged if spec.dataflow == "is" else self._as_given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Streamed:
    """Operands with m, k and n those of the array; bias (groups, m, n), a view where its rows are equal."""

    act: Words
    wgt: Words
    bias: npt.NDArray[np.int32]
    preload: npt.NDArray[np.int8] | None


def check_operands(plan: Schedule, operands: Operands) -> None:
    """Raise BadData where `operands` are not those `plan` was made for, or wider than the array's."""
    if operands.shape != plan.shape:
        raise BadData(
            f"Operands: {operands.shape}; allowed: {plan.shape}. Make a schedule for these operands."
        )
    given: tuple[tuple[str, npt.NDArray[Any] | None, int], ...] = (
        ("act", operands.act, plan.spec.act_bits),
        ("wgt", operands.wgt, plan.spec.wgt_bits),
        ("preload", operands.preload, plan.spec.edge_bits),
        ("bias", operands.bias, plan.spec.acc_bits),
    )
    for name, words, bits in given:
        if words is None or words.dtype.itemsize * 8 <= bits:
            continue
        low, high = int(words.min()), int(words.max())
        if low < -(1 << (bits - 1)) or high >= 1 << (bits - 1):
            raise BadData(
                f"Operands: {name} holds {low} to {high}; allowed: {bits} bits signed on {plan.spec.name!r}. "
                f"Requantise {name}, or use a wider array."
            )


def _check(
    name: str, array: npt.NDArray[np.generic], dtypes: tuple[type, ...], *shapes: tuple[int, ...]
) -> None:
    if array.dtype not in dtypes or array.shape not in shapes or 0 in array.shape:
        allowed = " or ".join(str(np.dtype(d)) for d in dtypes)
        raise BadData(
            f"Operands: {name} is {array.dtype} {array.shape}; allowed: {allowed} {' or '.join(map(str, shapes))}, "
            f"no axis empty. Convert or reshape {name}."
        )

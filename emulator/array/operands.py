"""The integers a layer brings to the array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.tiling import Schedule
from emulator.errors import BadData
from emulator.gemm import GemmShape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operands:
    """act (groups, m, k) int8, wgt (groups, k, n) int8, bias (groups, n) int32.

    psum (groups, m, n) int8 enters at the top of the array with the first k-fold, where the hardware has a
    register for it; None is zero, as layers have it. Raises BadData for a wrong dtype or shape.
    """

    act: npt.NDArray[np.int8]
    wgt: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    psum: npt.NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        if self.act.ndim != 3 or self.wgt.ndim != 3:
            raise BadData(
                f"Operands: act {self.act.shape}, wgt {self.wgt.shape}; allowed: (groups, m, k) and "
                "(groups, k, n). Add a leading axis of length 1 where there is one group."
            )
        groups, m, k = self.act.shape
        n = self.wgt.shape[2]
        _check("act", self.act, np.int8, (groups, m, k))
        _check("wgt", self.wgt, np.int8, (groups, k, n))
        _check("bias", self.bias, np.int32, (groups, n))
        if self.psum is not None:
            _check("psum", self.psum, np.int8, (groups, m, n))

    @property
    def shape(self) -> GemmShape:
        groups, m, k = self.act.shape
        return GemmShape(m=m, k=k, n=self.wgt.shape[2], groups=groups)


def check_operands(plan: Schedule, operands: Operands) -> None:
    """Raise BadData where `operands` are not those `plan` was made for."""
    if operands.shape != plan.shape:
        raise BadData(
            f"Operands: {operands.shape}; allowed: {plan.shape}. Make a schedule for these operands."
        )


def _check(name: str, array: npt.NDArray[np.generic], dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or 0 in shape:
        raise BadData(
            f"Operands: {name} is {array.dtype} {array.shape}; allowed: {np.dtype(dtype)} {shape}, "
            f"no axis empty. Convert or reshape {name}."
        )

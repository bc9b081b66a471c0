"""What checksums cost on the array, layer by layer: extra multiply-accumulates and extra cycles.

A sum of operands does not fit an operand: one of n weights of 8 bits takes the words that `words_of` counts, in
balanced digits of the array's width, each a column (or row) of its own; what the digits give is added up, shifted,
beside the array. PEs wide enough for a checksum take one column, one row, as Huang & Abraham (1984) have it.

Adders beside the array (the sums of accumulators and activations, the comparison) work while the words pass, and
take no cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.choices import one_of
from emulator.faults.plan import plan_of
from emulator.graph.qgraph import MacLayer
from emulator.harden.checksum import CHECKS, Check

Pass = Literal["own", "same"]
"""Where checksums are computed: "own": products of their own after the layer, with operands loaded anew, as the
coverage assumes; "same": columns and rows of the layer's own product, which share its operands."""
PASSES: tuple[Pass, ...] = get_args(Pass)
OWN, SAME = PASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksumCost:
    """Of a layer, or of a network. macs, cycles: without checksums; extra_macs, extra_cycles: what they add. Cycles
    are those of `Schedule.cycles`, an inference."""

    macs: int
    cycles: int
    extra_macs: int
    extra_cycles: int

    @property
    def mac_share(self) -> float:
        """The extra multiply-accumulates as a share of the unprotected."""
        return self.extra_macs / self.macs

    @property
    def cycle_share(self) -> float:
        """The extra cycles as a share of the unprotected."""
        return self.extra_cycles / self.cycles

    def to_json(self) -> dict[str, Any]:
        """Numbers and both shares."""
        return asdict(self) | {"mac_share": self.mac_share, "cycle_share": self.cycle_share}


def layer_cost(
    array: ArraySpec, layer: MacLayer, check: Check, where: Pass = OWN, *, wide: bool = False
) -> ChecksumCost:
    """Of one layer. wide: PEs take a checksum as one operand. Raises BadConfig where the array can't run it, and for
    another check or pass."""
    one_of(CHECKS, check, "check")
    one_of(PASSES, where, "pass")
    plan, shape = plan_of(array, layer), layer.shape
    columns = _lines(shape.n, 8, array.wgt_bits, wide) if check != "columns" else 0
    rows = _lines(shape.m, layer.act_bits, array.act_bits, wide) if check != "rows" else 0
    if where == SAME:
        whole = replace(shape, m=shape.m + rows, n=shape.n + columns)
        cycles = schedule(array, whole, requantised=plan.requantised).cycles - plan.cycles
        return ChecksumCost(
            macs=shape.macs, cycles=plan.cycles, extra_macs=whole.macs - shape.macs, extra_cycles=cycles
        )
    own = [
        part
        for part, lines in ((replace(shape, n=columns), columns), (replace(shape, m=rows), rows))
        if lines
    ]
    return ChecksumCost(
        macs=shape.macs,
        cycles=plan.cycles,
        extra_macs=sum(part.macs for part in own),
        extra_cycles=sum(schedule(array, part, requantised=False).cycles for part in own),
    )


def network_cost(
    array: ArraySpec, layers: Sequence[MacLayer], check: Check, where: Pass = OWN, *, wide: bool = False
) -> ChecksumCost:
    """Of layers together, those of a network; arguments and errors are those of `layer_cost`."""
    parts = [asdict(layer_cost(array, layer, check, where, wide=wide)) for layer in layers]
    return ChecksumCost(**{name: sum(part[name] for part in parts) for name in ChecksumCost.__slots__})


def words_of(count: int, bits: int, width: int) -> int:
    """Words of `width` bits for the sum of `count` signed operands of `bits` bits, no more than `width`, modulo
    2^32.

    d balanced digits hold down to -2^(width - 1) (B^d - 1) / (B - 1), B = 2^width; modulo 2^32 no more than 32 /
    width are needed.
    """
    base, words = 1 << width, 1
    while count << (bits - 1) > (base**words - 1) // (base - 1) << (width - 1) and words * width < 32:
        words += 1
    return words


def _lines(count: int, bits: int, width: int, wide: bool) -> int:
    return 1 if wide else words_of(count, bits, width)

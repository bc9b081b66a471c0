"""The closed forms: what upsets add to the accumulators, without simulating the mesh.

A data register class has a geometry (which operands its sites touch, NumPy over all faults at once) and a kernel
(the integers). Derivation: sums are linear in the flipped value as long as no word wraps; partial sums are wide
enough unless the flip is in the sum itself, so only there the wrap is computed. A control bit spoils words of its
column: `control` finds them in three slots of that column. Whatever stays (stuck bits, several upsets) has no sparse
form, but a dense one: `forced` streams the struck columns and takes the others from a plain product.
"""

from emulator.array.closed_form.entry import Flips, accumulator_errors, covered, has_closed_form, prepare
from emulator.array.closed_form.forced import forced_accumulator, has_forced_form
from emulator.array.closed_form.records import AccumulatorErrors

__all__ = [
    "AccumulatorErrors",
    "Flips",
    "accumulator_errors",
    "covered",
    "forced_accumulator",
    "has_closed_form",
    "has_forced_form",
    "prepare",
]

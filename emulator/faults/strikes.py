"""What faults do to the layer they strike: sparse errors, many faults in one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

ENGINES = ("closed-form", "cycle")
CLOSED_FORM, CYCLE = ENGINES
UNSOLVED = -1


class LayerErrors(NamedTuple):
    """What kernels need of Strikes."""

    ptr: Ints
    m: Int32s
    n: Int32s
    delta: Int32s
    at_output: Flags
    hang: Flags


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strikes:
    """Errors of many faults on one image: fault f adds delta[ptr[f]:ptr[f + 1]] to [m, n] of the layer it
    strikes, to its accumulators or, where at_output, to its requantised words.

    before, after: the register's value around the flip (0 where the site is dead or the cycle engine was used).
    hang: the layer never completes (DUE), and there are no errors. engine: index into ENGINES; UNSOLVED: not
    computed, and there are no errors.
    """

    ptr: Ints = field(repr=False)
    m: Int32s = field(repr=False)
    n: Int32s = field(repr=False)
    delta: Int32s = field(repr=False)
    before: Ints = field(repr=False)
    after: Ints = field(repr=False)
    at_output: Flags = field(repr=False)
    hang: Flags = field(repr=False)
    engine: Ints = field(repr=False)

    @property
    def errors(self) -> LayerErrors:
        """Without what only people read."""
        return LayerErrors(self.ptr, self.m, self.n, self.delta, self.at_output, self.hang)


class Extent(NamedTuple):
    """How much faults spoil, (faults,) each: index of the engine, does the layer hang, wrong accumulators, and the
    largest error of one."""

    engine: Ints
    hang: Flags
    size: Ints
    largest: Ints


def extent_of(strikes: Strikes) -> Extent:
    """Of each fault; errors of requantised words do not count."""
    size = np.where(strikes.at_output, 0, np.diff(strikes.ptr))
    largest = np.zeros(len(size), np.int64)
    struck = size > 0
    if struck.any():
        magnitude = np.abs(strikes.delta.astype(np.int64))
        largest[struck] = np.maximum.reduceat(magnitude, strikes.ptr[:-1][struck])
    return Extent(strikes.engine, strikes.hang, size, largest)


def gathered(ptr: Ints, chosen: npt.NDArray[np.intp]) -> tuple[Ints, Ints]:
    """Of lists that lie end to end, list i from ptr[i] on, those `chosen`: their ptr, and where each entry was."""
    sizes = np.diff(ptr)[chosen]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    return starts, np.arange(starts[-1]) + np.repeat(ptr[:-1][chosen] - starts[:-1], sizes)


def errors_of(errors: LayerErrors, chosen: npt.NDArray[np.intp]) -> LayerErrors:
    """Those of some faults, in the order of `chosen`."""
    ptr, at = gathered(errors.ptr, chosen)
    chosen_of = errors.at_output[chosen], errors.hang[chosen]
    return LayerErrors(ptr, errors.m[at], errors.n[at], errors.delta[at], *chosen_of)


def strikes_of(strikes: Strikes, chosen: npt.NDArray[np.intp]) -> Strikes:
    """Those of some faults, in the order of `chosen`."""
    ptr, m, n, delta, at_output, hang = errors_of(strikes.errors, chosen)
    before, after, engine = strikes.before[chosen], strikes.after[chosen], strikes.engine[chosen]
    return Strikes(
        ptr=ptr,
        m=m,
        n=n,
        delta=delta,
        before=before,
        after=after,
        at_output=at_output,
        hang=hang,
        engine=engine,
    )


def joined(parts: Sequence[Strikes]) -> Strikes:
    """Batches one after the other."""
    count = sum(len(part.hang) for part in parts)
    return in_order(parts, np.arange(count), count)


def in_order(parts: Sequence[Strikes], order: npt.NDArray[np.intp], count: int) -> Strikes:
    """Batches laid end to end, then sorted back into the order in which the faults were asked for."""
    taken = np.concatenate([np.diff(part.ptr) for part in parts])
    sizes = np.empty(count, np.int64)
    sizes[order] = taken
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    within = np.arange(ptr[-1]) - np.repeat(np.cumsum(taken) - taken, taken)
    place = np.repeat(ptr[order], taken) + within
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in ("m", "n", "delta"):
        columns[name] = np.empty(ptr[-1], np.int32)
        columns[name][place] = np.concatenate([getattr(part, name) for part in parts])
    for name in ("before", "after", "at_output", "hang", "engine"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        columns[name] = np.empty_like(joined)
        columns[name][order] = joined
    return Strikes(ptr=ptr, **columns)

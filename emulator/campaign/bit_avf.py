"""The AVF of each bit position, all registers together: position 0 is the least significant bit of a register."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emulator.array.registers import register
from emulator.array.spec import ArraySpec
from emulator.campaign.results import Results
from emulator.errors import BadConfig
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz


def avf_by_bit(results: Results, event: npt.NDArray[np.bool_] | None = None) -> dict[int, Estimate]:
    """P(SDC-1) of a fault anywhere in these bits, dead sites included, for each position that a register has; or that
    of another event, (trials,).

    The sites are counted, the rate of faults that lie there and change the answer is that over all trials: unbiased
    however few fell into a position. n counts all trials. Raises BadConfig for a campaign that goes through every site:
    its classes lie in several bits.
    """
    if results.counted:
        raise BadConfig(
            f"{results.directory} is a campaign that goes through every site; allowed here: one that draws. "
            "Take another."
        )
    counted = results.column("sdc1") if event is None else event
    mask = results.column("bits")
    found = {}
    for bit, sites in sorted(sites_by_bit(results).items()):
        hit = counted & (mask == 1 << bit)
        rate = hansen_hurwitz(hit, results.weight, max_weight=results.max_weight)
        found[bit] = _over(rate, results.population.live / sites)
    return found


def sites_by_bit(results: Results, registers: Sequence[str] | None = None) -> Counter[int]:
    """Register bits x cycles of each position, of all registers struck or of these."""
    array = ArraySpec(**results.manifest["array"])
    sites: Counter[int] = Counter()
    for entry in results.manifest["space"]["breakdown"]:
        if registers is not None and entry["register"] not in registers:
            continue
        found = register(array, entry["register"])
        narrow = found.lines[0] if found.first_row == 0 else 0
        cycles = int(entry["sites"]) // max(1, found.total_bits)
        for bit in range(max(found.bits, found.first_row_bits)):
            wide = (found.count - narrow) * (bit < found.bits) + narrow * (bit < found.first_row_bits)
            sites[bit] += wide * cycles
    return +sites


def _over(rate: Estimate, factor: float) -> Estimate:
    """A rate over all live sites as one over those of a part; at most 1."""
    value, low, high = (min(1.0, factor * x) for x in (rate.value, rate.low, rate.high))
    return Estimate(
        value=value,
        low=low,
        high=high,
        confidence=rate.confidence,
        n=rate.n,
        ess=rate.ess / factor,
        method=rate.method,
    )

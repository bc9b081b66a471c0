"""The shares that docs/array.md states: uniform flips over all bits and cycles of full-tile programs."""

import sys
from pathlib import Path

import pytest

from emulator.sampling.intervals import wilson

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "benchmarks"))
import sdc_share

# In percent: to the last result row, and over the cycles in which rows are accepted (the RTL was seen to give 16.6 for
# an output-stationary tile).
STATED = {"ws": (11.1, 11.7), "ws_chain2": (17.6, 19.8), "os_k16": (14.8, 16.6), "os_k32": (17.3, 19.3)}


@pytest.mark.slow
@pytest.mark.parametrize("program", STATED)
def test_uniform_flips_change_the_result_as_often_as_stated(program: str) -> None:
    setting = sdc_share.settings()[program]
    shares, accepted = sdc_share.sample(setting, 40_000, seed=2)
    for found, stated in zip((sdc_share.total(shares), accepted), STATED[program], strict=True):
        # Another seed, and a tenth of a point for what was rounded.
        low, high = wilson(found.changed, found.flips, 0.999)
        assert low - 0.001 <= stated / 100 <= high + 0.001
        assert high - low < 0.015


def test_the_population_is_that_of_the_mesh() -> None:
    setting = sdc_share.settings()["ws"]
    names = {reg.name for reg in sdc_share.population(setting.spec)}
    assert {"pe_c2", "skew_d", "deskew_data", "out_valid", "late_shift", "transposer"} <= names
    assert not {"accumulator", "act_buffer", "write_sum", "seq_row"} & names
    shares, _ = sdc_share.sample(setting, 2_000)
    # What nothing reads in one tile.
    assert all(
        shares[name].changed == 0 for name in ("pe_c2", "transposer", "pe_shift", "pe_last_s", "out_c")
    )
    assert all(shares[name].changed > 0 for name in ("pe_a", "pe_b", "pe_c1", "deskew_data"))
    assert sdc_share.total(shares).flips == 2_000

"""Raw rates by kind and by register, and the FIT they come to."""

from __future__ import annotations

import tomllib

import pytest

from emulator.array.fit import Fit, RawFit, Storage, fit_of_parts, sdc_fit
from emulator.errors import BadConfig

REGISTERS = ("pe_a", "pe_b", "accumulator")


def from_toml(text: str) -> RawFit:
    return RawFit.from_table(tomllib.loads(text), REGISTERS)


def test_a_register_has_the_rate_of_its_kind_unless_it_has_its_own() -> None:
    raw = from_toml("flip-flop = 75\nsram = 12.5\npe_b = 3")
    assert raw.fit_per_mbit("pe_a", "flip-flop") == 75.0
    assert raw.fit_per_mbit("pe_b", "flip-flop") == 3.0
    assert raw.fit_per_mbit("accumulator", "sram") == 12.5


def test_a_memory_with_ecc_can_be_given_no_upsets() -> None:
    assert from_toml("accumulator = 0").fit_per_mbit("accumulator", "sram") == 0.0


@pytest.mark.parametrize("storage", ["flip-flop", "sram"])
def test_an_empty_table_leaves_the_defaults(storage: Storage) -> None:
    assert from_toml("") == RawFit()
    assert RawFit().fit_per_mbit("pe_a", storage) == 20.0


def test_the_record_is_hashable_and_its_repr_round_trips() -> None:
    raw = from_toml("sram = 600\npe_a = 75")
    assert eval(repr(raw)) == raw
    assert hash(raw) == hash(eval(repr(raw)))


def test_all_mistakes_of_a_table_come_in_one_error() -> None:
    with pytest.raises(BadConfig) as caught:
        from_toml('pe_z = 20\npe_a = -1\npe_b = "20"\naccumulator = nan\nsram = true\nflip-flop = inf')
    message = str(caught.value)
    for mistake in (
        "'pe_z'",
        "pe_a = -1",
        "pe_b = '20'",
        "accumulator = nan",
        "sram = True",
        "flip-flop = inf",
    ):
        assert mistake in message
    assert "(did you mean 'pe_b'?); allowed: flip-flop, sram, pe_a, ... (all: `emulator inspect" in message
    assert "0 or more" in message
    assert message.endswith("Correct or remove these entries.")


def test_a_negative_rate_is_refused_without_a_table_too() -> None:
    with pytest.raises(BadConfig, match=r"sram = -20\.0; allowed"):
        RawFit(sram_fit_per_mbit=-20.0)
    with pytest.raises(BadConfig, match=r"pe_a = -1\.0; allowed"):
        RawFit(by_register=(("pe_a", -1.0),))


def test_fit_is_raw_rate_times_bits_times_avf() -> None:
    # 64 KiB of accumulators, 524288 bits, at 20 FIT/Mbit: 10.48576 FIT raw.
    fit = sdc_fit(64 * 1024 * 8, 20.0, (0.1, 0.08, 0.13))
    assert fit == pytest.approx((1.048576, 0.8388608, 1.3631488))
    assert (fit.value, fit.low, fit.high) == tuple(fit)


def test_a_megabit_that_always_fails_has_its_raw_rate() -> None:
    assert sdc_fit(1_000_000, 20.49, (1.0, 1.0, 1.0)) == (20.49, 20.49, 20.49)


def test_masked_bits_and_bits_without_upsets_give_no_fit() -> None:
    assert sdc_fit(4096, 20.0, (0.0, 0.0, 0.0)) == (0.0, 0.0, 0.0)
    assert sdc_fit(4096, 0.0, (0.5, 0.4, 0.6)) == (0.0, 0.0, 0.0)


def test_distances_of_parts_combine_as_standard_deviations_do() -> None:
    assert fit_of_parts([Fit(10, 7, 14), Fit(20, 16, 23)]) == Fit(30, 25, 35)
    assert fit_of_parts([Fit(10, 7, 14)]) == Fit(10, 7, 14)

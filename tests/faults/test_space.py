"""The fault space: one integer a site, counted by brute force where it is small enough."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import Builder
from scipy.stats import chisquare

from emulator.array.cycle import replay_layer
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.array.upset import Upset
from emulator.errors import BadConfig
from emulator.faults.fault import Fault, FaultBatch
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strike import operands, strike_by_cycles
from emulator.faults.strikes import ENGINES
from emulator.graph.golden import Golden
from emulator.graph.load import Network, load
from emulator.propagate.propagator import Propagator

NAMES = [entry.name for entry in inventory(ArraySpec())]
TINY_ARRAY = ArraySpec(
    name="tiny", rows=3, cols=2, psum_bits=18, bank_bits=9, acc_rows=4, act_buffer_rows=14, wgt_buffer_rows=12
)
# One of each kind of lifetime: small enough to list every site.
SMALL = (
    *(
        "pe_a",
        "pe_b",
        "pe_d",
        "pe_c1",
        "pe_c2",
        "skew_b",
        "out_b",
        "pe_valid",
        "seq_row",
        "tag_base",
        "write_mask",
    ),
    *("requant_result", "accumulator", "act_buffer", "wgt_buffer", "transposer"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A convolution and a fully connected layer, a few hundred multiply-accumulates."""
    b = Builder(np.random.default_rng(3))
    x = b.input((1, 2, 4, 3))
    x = b.mac(
        "Conv",
        x,
        (3, 2, 2, 2),
        (1, 3, 3, 2),
        k=8,
        channels=3,
        per_channel=True,
        with_bias=True,
        attributes={},
    )
    x = b.moved(x, "Flatten", [], (1, 18), True)
    x = b.mac(
        "Gemm", x, (18, 4), (1, 4), k=18, channels=4, per_channel=False, with_bias=True, axis=1, attributes={}
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(b.model(x), path)
    return load(path)


@st.composite
def spaces(draw: st.DrawFn, network: Network, array: ArraySpec) -> FaultSpace:
    """Any restriction to registers and layers that leaves a live site."""
    registers = draw(st.none() | st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    names = [layer.name for layer in network.graph.layers]
    layers = draw(
        st.none() | st.lists(st.sampled_from([*names, *range(len(names))]), min_size=1, unique=True)
    )
    try:
        return FaultSpace(network, array, registers=registers, layers=layers)
    except BadConfig as error:
        assert "no live site" in str(error)
        return FaultSpace(network, array)


@given(data=st.data())
@settings(max_examples=150)
def test_a_site_and_its_index_are_one_thing(bundled: Any, data: st.DataObject) -> None:
    space = data.draw(spaces(bundled.network, bundled.array))
    index = data.draw(st.integers(0, space.size - 1))
    fault = space.site(index)
    assert space.index(fault) == index
    register = next(r for r in inventory(space.array) if r.name == fault.upset.register)
    assert register.check_place(fault.upset.row, fault.upset.col, fault.upset.bits) is None


def test_first_and_last_index_are_sites_and_the_next_are_not(bundled: Any) -> None:
    space = FaultSpace(bundled.network, bundled.array)
    assert space.index(space.site(0)) == 0
    assert space.index(space.site(space.size - 1)) == space.size - 1
    for outside in (-1, space.size):
        with pytest.raises(BadConfig, match="allowed: 0 to"):
            space.site(outside)


def test_every_index_of_a_small_space_is_another_site(tiny: Network) -> None:
    """The whole space: cycles x bits of every register, counted from the array's geometry."""
    bits = {
        "pe_a": 6 * 8,
        "pe_b": 2 * 8 + 4 * 18,
        "pe_c1": 6 * 9,
        "skew_a": (1 + 2) * 8,
        "deskew_data": 1 * 18,
        "out_b": 2 * 18,
        "seq_row": 2,
        "accumulator": 4 * 2 * 32,
        "act_buffer": 14 * 3 * 8,
    }
    space = FaultSpace(tiny, TINY_ARRAY, registers=list(bits))
    seen = {space.site(index) for index in range(space.size)}
    assert len(seen) == space.size
    count = Counter((fault.layer, fault.upset.register) for fault in seen)
    for layer, mac in enumerate(tiny.graph.layers):
        cycles = schedule(TINY_ARRAY, mac.shape).window_cycles
        assert {name: count[layer, name] for name in bits} == {name: b * cycles for name, b in bits.items()}


def place_of(faults: FaultBatch, at: int, array: ArraySpec) -> Fault:
    upset = Upset(
        register=inventory(array)[int(faults.register[at])].name,
        row=int(faults.row[at]),
        col=int(faults.col[at]),
        bits=(int(faults.bit[at]),),
        cycle=int(faults.cycle[at]),
    )
    return Fault(layer=int(faults.layer[at]), upset=upset)


@given(data=st.data(), seed=st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_indices_of_a_batch_are_the_indices_of_its_faults(
    bundled: Any, data: st.DataObject, seed: int
) -> None:
    space = data.draw(spaces(bundled.network, bundled.array))
    faults = space.draw(np.random.default_rng(seed), 40)
    assert space.indices(faults) == [
        space.index(place_of(faults, i, space.array)) for i in range(len(faults))
    ]


@given(data=st.data(), seed=st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_many_sites_are_those_of_their_indices(bundled: Any, data: st.DataObject, seed: int) -> None:
    space = data.draw(spaces(bundled.network, bundled.array))
    index = np.random.default_rng(seed).integers(0, space.size, 40)
    faults = space.faults(index)
    one_by_one = [space.site(i) for i in index.tolist()]
    assert [place_of(faults, i, space.array) for i in range(len(faults))] == one_by_one
    assert (faults.fold >= 0).tolist() == [space.is_live(fault) for fault in one_by_one]


@given(data=st.data())
@settings(max_examples=60)
def test_the_breakdown_adds_up(bundled: Any, data: st.DataObject) -> None:
    space = data.draw(spaces(bundled.network, bundled.array))
    rows = space.breakdown()
    assert sum(int(row["sites"]) for row in rows) == space.size
    assert sum(int(row["live"]) for row in rows) == space.live
    assert len({(row["layer"], row["register"]) for row in rows}) == len(rows)
    assert 0 < space.live_share == space.live / space.size <= 1


def test_live_indices_are_exactly_the_sites_called_live(tiny: Network) -> None:
    space = FaultSpace(tiny, TINY_ARRAY, registers=SMALL)
    faults = space.live_faults(np.arange(space.live))
    listed = space.indices(faults)
    assert len(set(listed)) == space.live
    assert set(listed) == {index for index in range(space.size) if space.is_live(space.site(index))}


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_live_bits_are_those_that_have_an_offset(tiny: Network, dataflow: str) -> None:
    """Any words, dead ones too: a register's bits are asked about one by one."""
    space = FaultSpace(tiny, replace(TINY_ARRAY, dataflow=dataflow, bank_bits=18, acc_rows=6))
    rng, some = np.random.default_rng(4), 0
    for stratum in space.strata:
        register, full = stratum.register, partial(np.full, 400)
        row, col, bit = register.place(rng.integers(0, register.total_bits, 400))
        cycle = rng.integers(0, stratum.sites // register.total_bits, 400)
        faults = FaultBatch(
            layer=full(stratum.layer), register=full(register.code),
            row=row, col=col, bit=bit, cycle=cycle, fold=full(-1),
        )  # fmt: skip
        found = space.live_bits(faults)
        for bit in range(space.word_bits):
            of_bit = faults.sites._replace(bit=full(bit))
            expected = register.lifetime.offset(stratum.plan, of_bit)[1] >= 0
            np.testing.assert_array_equal(found[:, bit], expected & (bit < register.bits), register.name)
        some += int((found.any(axis=1) & ~found[:, : register.bits].all(axis=1)).sum())
    assert some, "no word with some of its bits dead"


def test_dead_sites_never_change_an_accumulator(tiny: Network) -> None:
    """The cycle engine on sites the space calls dead, both layers."""
    rng = np.random.default_rng(11)
    golden = Golden(tiny.graph)
    image = golden.run(rng.normal(size=(2, 4, 3)).astype(np.float32))
    for layer, name in product(range(2), set(SMALL) - {"transposer", "seq_row", "tag_base"}):
        space = FaultSpace(tiny, TINY_ARRAY, registers=[name], layers=[layer])
        plan = schedule(TINY_ARRAY, tiny.graph.layers[layer].shape)
        streamed = operands(golden, image, layer)
        dead = [i for i in range(space.size) if not space.is_live(space.site(i))]
        for index in rng.choice(dead, min(60, len(dead)), replace=False).tolist():
            fault = space.site(index)
            replay = replay_layer(plan, streamed, (fault.upset,))
            np.testing.assert_array_equal(
                replay.accumulator, golden.accumulator(image, layer), err_msg=str(fault)
            )


def test_dead_sites_of_a_bundled_model_never_change_an_accumulator(digits: Any) -> None:
    rng = np.random.default_rng(5)
    space = FaultSpace(digits.network, digits.array)
    image = digits.inference(0)
    checked = 0
    while checked < 25:
        fault = space.site(int(rng.integers(0, space.size)))
        if not space.is_live(fault):
            checked += 1
            strikes = strike_by_cycles(digits.golden, image, digits.array, fault.layer, [(fault.upset,)])
            assert len(strikes.m) == 0 and not strikes.hang[0], fault


def test_live_faults_strike_as_the_cycle_engine_says(tiny: Network) -> None:
    """FaultBatch to errors and back to one fault at a time, in the order that was asked for."""
    rng = np.random.default_rng(12)
    golden = Golden(tiny.graph)
    image = golden.run(rng.normal(size=(2, 4, 3)).astype(np.float32))
    space = FaultSpace(tiny, TINY_ARRAY)
    faults = space.draw(rng, 300)
    strikes = strike(golden, image, TINY_ARRAY, faults)
    effects = Propagator(golden).run(image, faults.layer, strikes.errors)
    assert {ENGINES[code] for code in strikes.engine} == set(ENGINES)
    for i, upset in enumerate(faults.upsets(TINY_ARRAY)):
        layer = int(faults.layer[i])
        alone = strike_by_cycles(golden, image, TINY_ARRAY, layer, [(upset,)])
        effect = Propagator(golden).run(image, np.array([layer]), alone.errors)
        assert alone.hang[0] == strikes.hang[i]
        assert np.array_equal(effect.logits[0], effects.logits[i]), upset
        assert effect.corrupted[0] == effects.corrupted[i], upset


def test_draws_are_uniform_over_strata(fashion: Any) -> None:
    space = FaultSpace(fashion.network, fashion.array, registers=["pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2"])
    drawn = space.draw(np.random.default_rng(1), 60_000)
    found = Counter(zip(drawn.layer.tolist(), drawn.register.tolist(), strict=True))
    want = {(s.layer, s.register.code): s.live for s in space.strata if s.live}
    assert found.keys() <= want.keys()
    expected = np.array(list(want.values())) / space.live * len(drawn)
    frequent = expected > 5
    counts = np.array([found[key] for key in want])
    # The rare strata together are one cell.
    cells = np.append(counts[frequent], counts[~frequent].sum())
    shares = np.append(expected[frequent], expected[~frequent].sum())
    assert chisquare(cells[shares > 0], shares[shares > 0]).pvalue > 1e-3


def test_draws_are_uniform_over_the_sites_of_a_small_space(tiny: Network) -> None:
    space = FaultSpace(tiny, TINY_ARRAY, registers=["pe_d"], layers=[0])
    assert space.live < 2000
    drawn = space.indices(space.draw(np.random.default_rng(2), 50 * space.live))
    live = space.indices(space.live_faults(np.arange(space.live)))
    count = Counter(drawn)
    assert count.keys() == set(live)
    assert chisquare([count[index] for index in live]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("restriction", "words"),
    [
        ({"registers": ["pe_x"]}, ["pe_x", "pe_a"]),
        ({"layers": ["conv9"]}, ["conv9", "0=conv1"]),
        ({"layers": [3]}, ["3", "2=fc"]),
        ({"registers": ["pe_c2"], "layers": ["conv1"]}, ["no live site"]),
    ],
)
def test_an_impossible_restriction_is_refused(
    digits: Any, restriction: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(BadConfig) as caught:
        FaultSpace(digits.network, digits.array, **restriction)
    assert all(word in str(caught.value) for word in words)


def test_faults_outside_the_space_have_no_index(digits: Any) -> None:
    space = FaultSpace(digits.network, digits.array, registers=["pe_b"], layers=["fc"])
    inside = space.site(0)
    for change in ({"row": 16}, {"col": 16}, {"bits": (8,)}, {"cycle": 10**9}, {"register": "pe_a"}):
        given_upset = {
            name: getattr(inside.upset, name) for name in ("register", "row", "col", "bits", "cycle")
        }
        with pytest.raises(BadConfig, match="allowed"):
            space.index(Fault(layer=2, upset=Upset(**{**given_upset, **change})))
    with pytest.raises(BadConfig, match="allowed"):
        space.index(Fault(layer=0, upset=inside.upset))


def test_one_name_alone_is_one_register_and_one_layer(digits: Any) -> None:
    alone = FaultSpace(digits.network, digits.array, registers="pe_a", layers="fc")
    listed = FaultSpace(digits.network, digits.array, registers=["pe_a"], layers=["fc"])
    assert alone.breakdown() == listed.breakdown()
    assert (
        FaultSpace(digits.network, digits.array, registers="pe_a", layers=0).strata[0].layer_name == "conv1"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"registers": "PE_A"},
            r"register 'PE_A' .* \(did you mean 'pe_a'\?\); allowed: pe_a, .*\.\.\. \(all: `emulator inspect",
        ),
        ({"registers": ["pe_c"]}, r"\(did you mean 'pe_c[12]'\?\)"),
        ({"layers": "conv_1"}, r"layer 'conv_1' .* \(did you mean 'conv1'\?\); allowed: 0=conv1"),
    ],
)
def test_a_name_that_there_is_not_is_refused_with_the_nearest(
    given: dict[str, Any], words: str, digits: Any
) -> None:
    with pytest.raises(BadConfig, match=words):
        FaultSpace(digits.network, digits.array, **given)


def test_registers_by_their_kind_of_storage(digits: Any) -> None:
    def names(*registers: str) -> list[str]:
        space = FaultSpace(digits.network, digits.array, registers=registers)
        return list(dict.fromkeys(stratum.register.name for stratum in space.strata))

    every = {entry.name: entry.storage for entry in inventory(digits.array)}
    memories = [name for name in every if every[name] == "sram"]
    assert names("sram") == names(*memories) and "accumulator" in memories
    assert {*names("flip-flop")} == {*every} - {*memories}
    assert names("sram", "pe_a", "accumulator") == names("pe_a", *memories)

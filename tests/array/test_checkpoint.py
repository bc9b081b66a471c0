"""A fault from the snapshot before it until the machine has re-converged is the whole layer with the fault."""

from dataclasses import replace

import numpy as np
import pytest

from emulator.array.checkpoint import LayerOnCycles
from emulator.array.cycle import Replay, replay_layer
from emulator.array.operands import Operands
from emulator.array.registers import Register, inventory, register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import KINDS, Upset
from emulator.errors import BadConfig
from emulator.gemm import GemmShape, Requantisation


def layer_of(
    spec: ArraySpec, shape: GemmShape, seed: int, *, requantised: bool = True
) -> tuple[Schedule, Operands, Requantisation | None]:
    rng = np.random.default_rng(seed)
    channels = shape.groups * shape.n
    operands = Operands(
        act=rng.integers(-128, 128, (shape.groups, shape.m, shape.k)).astype(np.int8),
        wgt=rng.integers(-128, 128, (shape.groups, shape.k, shape.n)).astype(np.int8),
        bias=rng.integers(-(2**20), 2**20, (shape.groups, shape.n)).astype(np.int32),
    )
    scale = rng.uniform(1e-4, 1e-2, channels).astype(np.float32)
    scales = Requantisation(scale=scale, zero_point=3) if requantised else None
    return schedule(spec, shape, requantised=requantised), operands, scales


def random_upset(reg: Register, cycles: int, rng: np.random.Generator) -> Upset:
    row, col, bit = (int(x) for x in reg.place(np.array(rng.integers(reg.total_bits))))
    cycle, kind = int(rng.integers(cycles)), KINDS[int(rng.choice([0, 0, 1, 2]))]
    until = None if kind == KINDS[0] or rng.random() < 0.3 else cycle + int(rng.integers(20))
    return Upset(register=reg.name, row=row, col=col, bits=(bit,), kind=kind, cycle=cycle, until_cycle=until)


def check(engine: LayerOnCycles, golden: Replay, whole: Replay, upset: Upset) -> int:
    """Compare every result; the cycles the fault took."""
    found = engine.strike((upset,))
    assert found.hang == (whole.completed_in is None), upset
    compared = [(golden.accumulator, whole.accumulator, (found.m, found.n, found.delta))]
    if engine.requantisation is not None:
        errors = (found.output_m, found.output_n, found.output_delta)
        compared.append((golden.output, whole.output, errors))
    for words, right, (m, n, delta) in compared:
        wrong = words.astype(np.int64)
        np.add.at(wrong, (m, n), delta)
        assert np.array_equal(wrong.astype(np.int32), right), upset
    if engine.requantisation is None:
        assert found.explained and len(found.output_m) == 0, upset
    elif found.explained and not found.hang:
        assert np.array_equal(engine.requantisation(whole.accumulator), whole.output), upset
    return found.cycles


@pytest.mark.parametrize(
    ("overflow", "requantised"), [("wrap", True), ("saturate", True), ("wrap", False)], ids=str
)
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_every_register_class_responds_as_in_a_whole_run(
    dataflow: str, overflow: str, requantised: bool
) -> None:
    spec = ArraySpec(
        rows=4, cols=3, dataflow=dataflow, psum_bits=18, acc_rows=18, overflow=overflow,
        act_buffer_rows=80, wgt_buffer_rows=60,
    )  # fmt: skip
    rng, hangs, simulated, done = np.random.default_rng(5), 0, 0, 0
    for seed, shape in enumerate((GemmShape(m=19, k=11, n=7), GemmShape(m=5, k=6, n=4, groups=3))):
        plan, operands, scales = layer_of(spec, shape, seed, requantised=requantised)
        engine = LayerOnCycles(plan, operands, scales)
        golden = replay_layer(plan, operands, (), scales)
        for reg in inventory(spec):
            for _ in range(4 if reg.total_bits else 0):
                upset = random_upset(reg, plan.window_cycles, rng)
                whole = replay_layer(plan, operands, (upset,), scales)
                simulated += check(engine, golden, whole, upset)
                hangs += whole.completed_in is None
                done += plan.window_cycles
    assert hangs > 10 and simulated < done


def test_a_fault_that_dies_costs_a_few_snapshots_of_a_long_layer() -> None:
    plan, operands, scales = layer_of(ArraySpec(rows=4, cols=4), GemmShape(m=300, k=40, n=4), 9)
    engine = LayerOnCycles(plan, operands, scales)
    upset = Upset(register="pe_valid", row=1, col=2, bits=(0,), cycle=700)
    found = engine.strike((upset,))
    assert plan.window_cycles > 3000 and found.cycles < 1000
    assert check(
        engine,
        replay_layer(plan, operands, (), scales),
        replay_layer(plan, operands, (upset,), scales),
        upset,
    )


def test_an_error_in_the_memory_is_carried_to_the_drain() -> None:
    """The machine has re-converged long before the word is drained; the running sum is wrong all the same."""
    spec = ArraySpec(rows=4, cols=4)
    plan, operands, scales = layer_of(spec, GemmShape(m=200, k=40, n=4), 10)
    engine = LayerOnCycles(plan, operands, scales)
    upset = Upset(register="accumulator", row=7, col=1, bits=(20,), cycle=400)
    found = engine.strike((upset,))
    assert found.m.tolist() == [7] and found.n.tolist() == [1] and abs(found.delta[0]) == 1 << 20
    assert found.cycles < 300
    assert register(spec, "accumulator").storage == "sram"


def test_a_layer_and_its_requantisation_belong_together() -> None:
    plan, operands, scales = layer_of(ArraySpec(rows=4, cols=4), GemmShape(m=5, k=4, n=4), 11)
    raw = schedule(plan.spec, plan.shape, requantised=False)
    with pytest.raises(
        BadConfig, match="no requantisation; allowed: one, or a schedule with requantised=False"
    ):
        LayerOnCycles(plan, operands, None)
    with pytest.raises(BadConfig, match="requantised=False; allowed: None"):
        LayerOnCycles(raw, operands, scales)


@pytest.mark.parametrize("requantiser", ["float32", "fixed-point"])
def test_no_fault_of_the_requantiser_reaches_a_layer_that_is_not_requantised(requantiser: str) -> None:
    """Its registers are dead there, whatever sticks in them, and the layer is over when its last row is drained."""
    spec = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=6, requantiser=requantiser)
    plan, operands, _ = layer_of(spec, GemmShape(m=9, k=6, n=4), 12, requantised=False)
    engine, golden, rng = (
        LayerOnCycles(plan, operands, None),
        replay_layer(plan, operands),
        np.random.default_rng(1),
    )
    assert golden.completed_in == plan.window_cycles == schedule(spec, plan.shape).window_cycles - 9
    for reg in (entry for entry in inventory(spec) if entry.name.startswith("requant_")):
        assert reg.lifetime.count(plan).sum() == 0
        assert reg.lifetime.count(schedule(spec, plan.shape)).sum() > 0
        for kind in KINDS:
            for _ in range(10):
                upset = replace(random_upset(reg, plan.window_cycles, rng), kind=kind, until_cycle=None)
                whole, found = replay_layer(plan, operands, (upset,)), engine.strike((upset,))
                assert np.array_equal(whole.accumulator, golden.accumulator), upset
                assert whole.completed_in == golden.completed_in, upset
                assert not found.hang and found.explained and len(found.m) == 0, upset

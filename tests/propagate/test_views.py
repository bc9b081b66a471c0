"""How the changes of a tensor lie for operators that read it in runs of different depth."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models import Builder, Tensor
from strikes import random_strikes
from test_delta import check_against_rerun, run

from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.graph.program import Col, Kind
from emulator.propagate.propagator import Propagator
from emulator.propagate.views import span, unit_of
from emulator.simd import CHOSEN, PART, rule_of


def conv(b: Builder, x: Tensor, channels: int, groups: int = 1) -> Tensor:
    shape = (channels, x.shape[1] // groups, 1, 1)
    return b.mac(
        "Conv", x, shape, (1, channels, *x.shape[2:]), k=shape[1], channels=channels, per_channel=True,
        with_bias=True, attributes={"group": groups},
    )  # fmt: skip


@pytest.fixture(scope="module", params=[8, 70])
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Two convolutions read the same tensor, one of them by groups, an addition the results."""
    b = Builder(np.random.default_rng(request.param), form="qop")
    x = conv(b, b.input((1, 3, 4, 5)), request.param)
    answer = b.add(conv(b, x, request.param), conv(b, x, request.param, groups=2))
    path = tmp_path_factory.mktemp("views") / "model.onnx"
    onnx.save(b.model(answer), path)
    return Golden(load(path).graph)


def test_every_element_lies_in_one_unit(golden: Golden) -> None:
    views = Propagator(golden).scratch.views
    sizes = np.diff(golden.program.tensor_start)
    for view, tensor in enumerate(views.tensor.tolist()):
        seen: list[int] = []
        for unit in range(sizes[tensor] // views.depth[view] * views.parts[view]):
            first, length = span(views, view, unit)
            assert 0 < length <= PART
            assert {unit_of(views, view, first + i) for i in range(length)} == {unit}
            seen += range(first, first + length)
        assert seen == list(range(sizes[tensor]))


def test_a_tensor_read_in_two_ways_is_followed_in_both(golden: Golden) -> None:
    propagator = Propagator(golden)
    views = propagator.scratch.views
    assert (views.source != views.tensor[views.source]).any()
    rng = np.random.default_rng(5)
    image = golden.run(np.zeros((1, 3, 4, 5), np.float32))
    layer, strikes = random_strikes(golden, rng, 300)
    effects = run(propagator, image, layer, strikes)
    check_against_rerun(golden, image, layer, strikes, effects)
    assert not propagator.scratch.counts.any() and not propagator.scratch.spread.mark.any()


def test_an_addition_is_computed_by_its_rule_only_where_that_gives_the_table(golden: Golden) -> None:
    p, graph = golden.program, golden.graph
    row = next(row for row in p.ops if row[Col.KIND] == Kind.PAIR_TABLE)
    assert bool(row[Col.RULED]) == (CHOSEN.name != "plain")
    table = p.tables[row[Col.TABLE_START] :][:65536].copy()
    tensors = [graph.tensors[row[column]] for column in (Col.SOURCE, Col.RIGHT, Col.TARGET)]
    given = [(tensor.scale, tensor.zero_point, tensor.offset) for tensor in tensors]
    rule = rule_of(table, *given)
    assert (rule is None) == (CHOSEN.name == "plain")
    for wrong in (0, 40_000, 65_535):
        other = table.copy()
        other[wrong] += 1 if other[wrong] < 0 else -1
        assert rule_of(other, *given) is None

"""Classes of faults against a dictionary of what each fault stores, and against faults followed one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strikes import random_strikes

from emulator.faults.strikes import LayerErrors, errors_of
from emulator.graph.golden import Golden, Inference
from emulator.propagate.classes import Classes
from emulator.propagate.propagator import Propagator


def stored(golden: Golden, image: Inference, layer: int, errors: LayerErrors, f: int) -> tuple[Any, ...]:
    """(layer, elements and values that differ from golden, does the clamp alone hide it?) of one fault."""
    part = slice(errors.ptr[f], errors.ptr[f + 1])
    m, n, delta = errors.m[part], errors.n[part], errors.delta[part]
    mac = golden.graph.layers[layer]
    output = golden.tensor(image, mac.target).reshape(mac.shape.m, mac.columns)
    if errors.at_output[f]:
        values, hidden = (output[m, n] + delta).astype(np.int8), False
    else:
        acc = golden.accumulator(image, layer).copy()
        before = mac.requantisation.rounded(acc)[m, n]
        np.add.at(acc, (m, n), delta.astype(np.int32))
        values = mac.requantisation(acc)[m, n]
        hidden = bool((mac.requantisation.rounded(acc)[m, n] != before).any())
    changed = values != output[m, n]
    listed = tuple(zip((m * mac.columns + n)[changed].tolist(), values[changed].tolist(), strict=True))
    return layer, listed, hidden and not listed, bool(len(m))


def strikes_that_meet(golden: Golden, rng: np.random.Generator, faults: int) -> tuple[Any, LayerErrors]:
    """Random errors, each twice, some at the outputs, in random order; many meet behind the requantiser."""
    layer, strikes = random_strikes(golden, rng, faults)
    errors = strikes.errors._replace(at_output=rng.random(faults) < 0.3)
    twice = rng.permutation(np.repeat(np.arange(faults), 2))
    return layer[twice], errors_of(errors, twice)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), blocks=st.integers(1, 4))
def test_two_faults_share_a_class_if_and_only_if_they_store_the_same(
    digits: Any, seed: int, blocks: int
) -> None:
    rng = np.random.default_rng(seed)
    golden, image = digits.golden, digits.inference(seed % 10)
    classes, class_of = Classes(golden.program, image), {}
    for _ in range(blocks):
        layer, errors = strikes_that_meet(golden, rng, int(rng.integers(1, 300)))
        of = classes.add(layer, errors)
        for f, found in enumerate(of.tolist()):
            key = stored(golden, image, int(layer[f]), errors, f)
            assert class_of.setdefault(key, found) == found
    assert sorted(class_of.values()) == list(range(len(classes)))
    changes = classes.changes
    for (layer_of, listed, *_), c in class_of.items():
        part = slice(changes.ptr[c], changes.ptr[c + 1])
        pairs = zip(changes.element[part].tolist(), changes.value[part].tolist(), strict=True)
        assert tuple(pairs) == listed
        assert golden.program.layer_op[layer_of] == changes.op[c]


def test_faults_that_share_a_class_have_the_effects_of_faults_alone(bundled: Any) -> None:
    golden, image = bundled.golden, bundled.inference(3)
    layer, errors = strikes_that_meet(golden, np.random.default_rng(8), 400)
    propagator = Propagator(golden)
    together = propagator.run(image, layer, errors)
    assert (together.class_size > 1).sum() > 700
    for f in range(len(layer)):
        alone = propagator.run(image, layer[f : f + 1], errors_of(errors, np.array([f])))
        np.testing.assert_array_equal(together.logits[f], alone.logits[0])
        assert together.stage[f] == alone.stage[0]
        assert together.corrupted[f] == alone.corrupted[0]
        assert alone.class_size[0] == 1

"""What `emulator check` looks at: the network, its samples, and the float model to compare with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.cli.terminal import say

if TYPE_CHECKING:
    from emulator.campaign.inputs import Samples
    from emulator.graph.onnx_import import Network

SEEDED = 8


class NothingToCheck(Exception):
    """The model has no integer MAC layer, and is not meant to."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """float_model: an onnx.ModelProto, None without."""

    network: Network = field(repr=False)
    samples: Samples = field(repr=False)
    float_model: Any = field(repr=False)


def subject_of(
    path: Path,
    *,
    inputs: Path | None,
    float_model: Path | None,
    shapes: dict[str, list[int]],
    limit: int | None,
    seed: int,
) -> Subject:
    """Load what there is to check, and announce what is chosen for the user.

    A float model is quantised with the inputs, or without any with seeded ones, and is then the float model to
    compare with. Raises NothingToCheck for a weight-only model.
    """
    from emulator.campaign.inputs import load_samples
    from emulator.graph import quantize
    from emulator.graph.feeds import fixed_shapes, seeded_inputs

    proto = fixed_shapes(quantize.read_model(path), shapes)
    kind = quantize.kind_of(proto)
    if kind == "weight-only":
        raise NothingToCheck(
            f"{path.name} stores its weights as integers but multiplies in float, so no layer runs on the array. "
            "Quantise the activations too: emulator quantize FLOAT -o INT8 --calibration X.npz"
        )
    beside = None if float_model is None else quantize.read_model(float_model)
    drawn = None
    if kind == "float":
        if inputs is None:
            drawn = seeded_inputs(proto, samples=SEEDED, seed=seed)
            say(f"no --inputs: {SEEDED} random samples, standard normal, --seed {seed}")
        say(f"float model: quantised first, calibrated with these {'samples' if drawn else '--inputs'}")
        say("(emulator quantize has the choices: QDQ, int8, per channel, minmax)")
        beside = beside or proto
        proto = quantize.quantize(proto, inputs if drawn is None else drawn, limit=limit)
    network = _loaded(path, proto if kind == "float" or shapes else None)
    if drawn is not None:
        samples = load_samples(next(iter(drawn.values())), network.graph, limit)
    elif inputs is not None:
        samples = load_samples(inputs, network.graph, limit)
    else:
        samples = _random_samples(network, seed)
    return Subject(network=network, samples=samples, float_model=beside)


def _loaded(path: Path, changed: Any) -> Network:
    """The file itself or, if changed, what was made of it."""
    from emulator.graph.onnx_import import load

    if changed is None:
        return load(path)
    with tempfile.TemporaryDirectory(prefix="emulator-check-") as folder:
        made = Path(folder) / path.name
        made.write_bytes(changed.SerializeToString())
        return load(made)


def _random_samples(network: Network, seed: int) -> Samples:
    """Eight announced random samples over the input's quantised range."""
    import numpy as np

    from emulator.campaign.inputs import load_samples

    tensor = network.graph.tensors[network.graph.input]
    codes = np.random.default_rng(seed).integers(-128, 128, (SEEDED, tensor.size)).astype(np.int8)
    say(f"no --inputs: {SEEDED} random samples over the input's range, --seed {seed}")
    real = (tensor.to_onnx(codes).astype(np.float32) - tensor.offset - tensor.zero_point) * np.float32(
        tensor.scale
    )
    return load_samples(real.astype(np.float32), network.graph)

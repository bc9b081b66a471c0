"""What `emulator check` looks at: the network, its samples, and the float model to compare with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.cli.terminal import say

if TYPE_CHECKING:
    from emulator.campaign.inputs import Samples
    from emulator.graph.load import Network

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
    answer: str | None,
    limit: int | None,
    seed: int,
) -> Subject:
    """Load what there is to check, and announce what is chosen for the user.

    A float model is quantised with the inputs, or without any with seeded ones, and is then the float model to
    compare with. Raises NothingToCheck for a weight-only model.
    """
    from emulator.graph import quantize
    from emulator.graph.feeds import fixed_shapes, seeded_inputs
    from emulator.graph.load import network_of
    from emulator.graph.onnx_file import read_onnx

    proto, sha256 = read_onnx(path)
    kind = quantize.kind_of(proto)
    if kind == "weight-only":
        raise NothingToCheck(
            f"{path.name} stores its weights as integers but multiplies in float, so no layer runs on the array. "
            "Quantise the activations too: emulator quantize FLOAT -o INT8 --calibration X.npz"
        )
    beside = None if float_model is None else quantize.read_model(float_model)
    if kind != "float":
        network = network_of(proto, path, sha256=sha256, shapes=shapes, answer=answer)
        return Subject(network=network, samples=_samples(network, inputs, limit, seed), float_model=beside)
    proto = fixed_shapes(quantize.checked(proto, path), shapes)
    calibration: Any = inputs
    if inputs is None:
        calibration = seeded_inputs(proto, samples=SEEDED, seed=seed)
    say(f"float model: quantised first, calibrated with {'--inputs' if inputs else 'the samples below'}")
    say("(emulator quantize has the choices: QDQ, int8, per channel, minmax)")
    made = quantize.quantize(proto, calibration, limit=limit)
    network = network_of(made, path, answer=answer)
    return Subject(
        network=network, samples=_samples(network, inputs, limit, seed), float_model=beside or proto
    )


def _samples(network: Network, inputs: Path | None, limit: int | None, seed: int) -> Samples:
    """The user's samples, or eight announced random ones."""
    from emulator.campaign.inputs import load_samples, random_samples

    if inputs is not None:
        return load_samples(inputs, network.graph, limit)
    say(
        f"no --inputs: {SEEDED} random samples, standard normal, --seed {seed}: they show whether integers agree, not "
        "what yours clip"
    )
    return random_samples(network.graph, SEEDED, seed)

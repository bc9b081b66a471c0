"""A network and its calibration inputs to a file with bounds: observed, bounded, written and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.campaign.inputs import Samples, samples_of
from emulator.choices import one_of
from emulator.graph.feeds import Data
from emulator.graph.load import network_of
from emulator.graph.onnx_file import read_onnx, write_onnx
from emulator.graph.overwriting import refuse_to_overwrite
from emulator.graph.restriction import Bounds, restricted
from emulator.harden.accuracy import accuracy
from emulator.harden.ranges import PERS, Margin, Per, bounds_of, observe, unbounded
from emulator.sampling.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restricted:
    """model: the file that was written. per: what has bounds of its own. samples: that calibrated it. bounds: of each
    layer; unbounded: names of those without, as their result is not int8 in the file. before, after: accuracies, None
    without labels."""

    model: Path
    per: Per
    samples: int
    bounds: tuple[Bounds, ...] = field(repr=False)
    unbounded: list[str]
    before: Estimate | None
    after: Estimate | None

    @property
    def changed(self) -> bool:
        """Does any bound leave out a value? If none does, the file is the model as it was."""
        return any(each.restricts for each in self.bounds)

    def to_json(self) -> dict[str, Any]:
        """What `emulator restrict --json` prints."""
        accuracies = {"before": self.before, "after": self.after}
        return {
            "output": str(self.model),
            "per": self.per,
            "samples": self.samples,
            "changed": self.changed,
            "layers": [each.to_json() for each in self.bounds],
            "unbounded": self.unbounded,
            "accuracy": {name: found and found.to_json() for name, found in accuracies.items()},
        }


def restrict(
    model: str | Path,
    inputs: Data | Samples,
    output: str | Path,
    *,
    per: str = "channel",
    margin: str | int = 0,
    percentile: float = 100.0,
    test: Data | Samples | None = None,
    limit: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    answer: str | None = None,
) -> Restricted:
    """Bound what the layers of a model give by what calibration inputs show, and write that as an ordinary ONNX file,
    `output`, with the same graph and names.

    inputs, limit: as in `Campaign`; they calibrate. per: "channel" or "layer". margin: outside what was seen, 4 for LSB
    or "5%" of its width. percentile: the innermost part of the values seen that stays inside, 50 to 100. test: inputs
    with labels that judge, None: those that calibrate. shapes, answer: as in `load`. Raises BadConfig for settings out
    of range, UnsupportedModel for operators from before opset 11, BadData for unfit inputs.
    """
    wider, chosen = Margin.parse(str(margin)), one_of(PERS, per, "per")
    source, target = Path(model), Path(output)
    refuse_to_overwrite(target, (source, inputs, test))
    proto, sha256 = read_onnx(source)
    network = network_of(proto, source, sha256=sha256, shapes=shapes, answer=answer)
    samples = samples_of(inputs, network.graph, limit)
    judging = samples if test is None else samples_of(test, network.graph)
    observed = observe(network, samples.inputs)
    bounds = bounds_of(observed, per=chosen, margin=wider, percentile=percentile)
    made = restricted(proto, network.graph, bounds)
    after = network_of(made, target, shapes=shapes, answer=answer)
    write_onnx(made, target)
    return Restricted(
        model=target,
        per=chosen,
        samples=len(samples),
        bounds=bounds,
        unbounded=unbounded(network, observed),
        before=accuracy(network, judging),
        after=accuracy(after, judging),
    )

"""What sensitivities cost, on one core: all activation gradients of a ResNet-20 beside its forward run, and finite
differences beside gradients.

Forward and gradients: ONNX Runtime on the float network and on its gradient graph, batch 1; the limit is on their
ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.graph.session import open_session, with_outputs
from emulator.sensitivity.backward import gradient_model
from emulator.sensitivity.finite_difference import FiniteDifferenceSource
from emulator.sensitivity.gradients import GradientSource
from emulator.sensitivity.horizon import horizons
from emulator.sensitivity.jacobian import rivals_of

sys.path.insert(0, str(Path(__file__).parent))
from engines import machine
from golden import taking_turns
from networks import quantised, resnet20

LIMIT = 3.5


def main() -> None:
    """Print a line a figure, or one JSON object; exit 1 where gradients cost more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    report = {"machine": machine(), "limit": LIMIT, **backward(), **jacobians()}
    print(json.dumps(report, indent=2) if wanted.json else lines(report))
    sys.exit(0 if report["ratio"] <= LIMIT else 1)


def backward() -> dict[str, Any]:
    """The float ResNet-20 with the gradients of every activation."""
    model = resnet20()
    source = model.graph.input[0]
    names = [name for node in model.graph.node for name in node.output][:-1]
    outputs = [model.graph.output[0].name]
    graded = gradient_model(model, names, loss="margin")
    wanted = [*outputs, *(f"grad:{name}" for name in names)]
    plain, session = (
        open_session(with_outputs(m, kept), optimised=True)
        for m, kept in ((model, outputs), (graded, wanted))
    )
    shape = [1, *(size.dim_value for size in source.type.tensor_type.shape.dim[1:])]
    image = {source.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    label = {"label": np.zeros(1, np.int64)}
    both, forward = taking_turns(
        lambda: session.run(wanted, image | label), lambda: plain.run(outputs, image)
    )
    return {
        "activations": len(names),
        "forward_ms": 1e3 * forward,
        "with_gradients_ms": 1e3 * both,
        "ratio": both / forward,
    }


def jacobians() -> dict[str, Any]:
    """Jacobians of an image of the quantised ResNet-20, two layers ahead, by both sources."""
    network = load(quantised("resnet20", Path(tempfile.gettempdir()) / "emulator-networks"))
    golden = Golden(network.graph)
    tensors = [horizon.tensor for horizon in horizons(golden, 2) if horizon is not None]
    spec = network.graph.inputs[0]
    sample = {spec.name: np.random.default_rng(0).standard_normal(spec.sample_shape).astype(spec.dtype)}
    image = golden.run(sample)
    rivals = rivals_of(golden.logits(image))
    seconds = []
    for source in (GradientSource(network, tensors), FiniteDifferenceSource(golden, tensors)):
        source.jacobians(sample, image, rivals)
        start = time.perf_counter()
        found = source.jacobians(sample, image, rivals)
        seconds.append(time.perf_counter() - start)
    return {
        "jacobian_ms": 1e3 * seconds[0],
        "finite_difference_ms": 1e3 * seconds[1],
        "elements": sum(len(rows) for rows in found.values()),
    }


def lines(report: dict[str, Any]) -> str:
    """For people."""
    return (
        f"ResNet-20, batch 1: forward {report['forward_ms']:.2f} ms, with the gradients of {report['activations']} "
        f"activations {report['with_gradients_ms']:.2f} ms: {report['ratio']:.2f} forwards (limit {report['limit']})\n"
        f"Jacobians of {report['elements']:,} elements of an image: {report['jacobian_ms']:.0f} ms by gradients, "
        f"{report['finite_difference_ms']:,.0f} ms by finite differences"
    )


if __name__ == "__main__":
    main()

"""Other fault injectors on a ResNet-20 for CIFAR-10: injections a second, as JSON on stdout.

It runs in the environment that tools/install_peers makes and imports nothing of ours; `propagation.py --peers` starts
it. An injection is an image with one fault of its own, followed to the logits, its answer compared with the fault-free
one (SDC-1). The fault: one bit of one output of a Conv2d as int8, the layer drawn by its neurons, neuron and bit
uniform. One thread, float32, random weights: speed does not depend on what they know.

The network as people have it, with its batch normalisation, in inference mode, and nothing built again that could be
built once; --tuned: as fast as we know how to make it, with batch normalisation folded, channels last where the peer
can work with that, and memory kept (see `keep_memory`).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from itertools import accumulate, pairwise
from math import prod
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PACKAGES = ("torch", "numpy", "pytorchfi", "mrfi")
TRIES = 100
"""Batches of faults, at most, until one changes a logit."""

Step = Callable[[], Tensor]
"""New faults, one an image: the logits (batch, 10)."""


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", default="1,8,16,32,64", help="images at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="peers take turns (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of each in a round (default: %(default)s)"
    )
    parser.add_argument("--tuned", action="store_true", help="the network, not the peer")
    wanted = parser.parse_args()
    if wanted.tuned:
        keep_memory()
    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    with torch.inference_mode():
        jobs, unavailable = prepare([int(batch) for batch in wanted.batches.split(",")], tuned=wanted.tuned)
        turns = [[rate(*job, wanted.seconds) for job in jobs.values()] for _ in range(wanted.rounds)]
    installed = {package.name.lower(): package.version for package in distributions()}
    report = {
        "versions": {name: installed.get(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "tuned": wanted.tuned,
        "results": [row(*key, [turn[i] for turn in turns]) for i, key in enumerate(jobs)],
        "unavailable": unavailable,
    }
    print(json.dumps(report, indent=2))


def row(peer: str, batch: int, rates: list[float]) -> dict[str, Any]:
    """Injections a second."""
    return {"peer": peer, "batch": batch, "median": median(rates), "best": max(rates), "rates": rates}


def keep_memory() -> None:
    """Have glibc keep what is freed. Else activations may come from the system and go back in every run: page faults
    cost up to a fifth."""
    mmap_max, trim_threshold = -4, -1  # of malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 1 << 30)


class Block(nn.Module):
    """Two convolutions and a shortcut, which drops pixels and pads channels where the shape changes: option A of He et
    al., CVPR'16, without products."""

    def __init__(self, cin: int, cout: int, *, folded: bool) -> None:
        super().__init__()
        self.grown = cout - cin
        self.first = convolution(cin, cout, 2 if self.grown else 1, folded=folded)
        self.second = convolution(cout, cout, 1, folded=folded)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x)))
        if self.grown:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grown // 2, self.grown // 2))
        return functional.relu(y + x)


def convolution(cin: int, cout: int, stride: int, *, folded: bool) -> nn.Module:
    """3 x 3, and its batch normalisation, unless that is folded into it."""
    conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=folded)
    return conv if folded else nn.Sequential(conv, nn.BatchNorm2d(cout))


def resnet20(*, folded: bool) -> nn.Sequential:
    """Its Conv2d are listed in the order in which they run, which both tools count on."""
    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [Block(cin, cout, folded=folded) for cin, cout in pairwise(widths)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(convolution(3, 16, 1, folded=folded), nn.ReLU(), *blocks, *head).eval()


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is struck. images (batch, 3, 32, 32); golden (batch, 10): fault-free logits; neurons: of an image, summed up
    to each Conv2d; ranges: the largest magnitude of each one's outputs."""

    model: nn.Module
    images: Tensor
    golden: Tensor
    neurons: list[int]
    ranges: list[float]

    def draw_layer(self) -> int:
        """By its neurons."""
        return random.choices(range(len(self.neurons)), cum_weights=self.neurons)[0]


def target(batch: int, *, tuned: bool, any_layout: bool) -> Target:
    """A new network with random images."""
    layout = torch.channels_last if tuned and any_layout else torch.contiguous_format
    model = resnet20(folded=tuned).to(memory_format=layout)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=layout)
    outputs: list[Tensor] = []
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    handles = [conv.register_forward_hook(lambda _, __, output: outputs.append(output)) for conv in convs]
    golden = model(images)
    for handle in handles:
        handle.remove()
    return Target(
        model=model,
        images=images,
        golden=golden,
        neurons=list(accumulate(prod(output.shape[1:]) for output in outputs)),
        ranges=[float(output.abs().max()) for output in outputs],
    )


def pytorchfi(batch: int, *, tuned: bool, once: bool) -> tuple[Target, Step]:
    """PyTorchFI (Mahmoud et al., DSN-W'20), single bit flips of int8: every batch of faults declared, as documented, or
    one declared and then only the lists written again that its hooks read."""
    from pytorchfi.neuron_error_models import random_neuron_location, single_bit_flip_func

    struck = target(batch, tuned=tuned, any_layout=True)
    shape, convs = list(struck.images.shape[1:]), [nn.Conv2d]
    tool = single_bit_flip_func(
        struck.model, batch, input_shape=shape, layer_types=convs, use_cuda=False, bits=8
    )
    # It makes the largest value 128, which is no int8, and stops with an AssertionError: make it 127.
    tool.set_conv_max([largest * 128 / 127 for largest in struck.ranges])

    def draw() -> list[list[int]]:
        """Layers, channels, rows, columns. random_neuron_single_bit_inj_batched would draw all layers alike."""
        places = [random_neuron_location(tool, struck.draw_layer()) for _ in range(batch)]
        return [list(part) for part in zip(*places, strict=True)]

    def declare() -> nn.Module:
        """A copy of the network with hooks."""
        # It removes its hooks but keeps their handles, and walks through all of them, more each time.
        tool.handles.clear()
        names = ("layer_num", "dim1", "dim2", "dim3")
        faults = {"batch": list(range(batch))} | dict(zip(names, draw(), strict=True))
        model: nn.Module = tool.declare_neuron_fi(function=tool.single_bit_flip_signed_across_batch, **faults)
        return model

    model = declare()

    def step() -> Tensor:
        tool.corrupt_layer, tool.corrupt_dim1, tool.corrupt_dim2, tool.corrupt_dim3 = draw()
        return model(struck.images)

    return struck, step if once else lambda: declare()(struck.images)


def mrfi(batch: int, *, tuned: bool) -> tuple[Target, Step]:
    """MRFI (Huang et al., 2023): one layer of a batch is enabled, and only what is struck there is quantised."""
    from mrfi import MRFI, EasyConfig

    struck = target(batch, tuned=tuned, any_layout=False)  # its view(-1) refuses channels last
    fault = {
        "type": "activation_out",
        "module_type": "Conv2d",
        "selector": {"method": "RandomPositionByNumber", "n": 1, "per_instance": True},
        "error_mode": {"method": "IntRandomBitFlip", "bit_width": 8},
        "quantization": {
            "method": "SymmericQuantization",
            "bit_width": 8,
            "layerwise": False,
            "dynamic_range": 0,
        },
    }
    tool = MRFI(struck.model, EasyConfig({"faultinject": [fault]}))
    layers = tool.get_activation_configs(is_out=True, module_type="Conv2d")
    tool.get_activation_configs(
        "quantization.args", is_out=True, module_type="Conv2d"
    ).dynamic_range = struck.ranges

    def step() -> Tensor:
        layers.enabled = False
        layers[struck.draw_layer()].enabled = True
        logits: Tensor = tool(struck.images)
        return logits

    return struck, step


PEERS: dict[str, Callable[..., tuple[Target, Step]]] = {
    "PyTorchFI, declared once": partial(pytorchfi, once=True),
    "PyTorchFI, declared every batch": partial(pytorchfi, once=False),
    "MRFI, one layer enabled": mrfi,
}


def prepare(
    batches: list[int], *, tuned: bool
) -> tuple[dict[tuple[str, int], tuple[Target, Step]], list[dict[str, str]]]:
    """By peer and batch, and the peers that don't work, with the reason."""
    jobs: dict[tuple[str, int], tuple[Target, Step]] = {}
    unavailable = []
    for name, peer in PEERS.items():
        try:
            jobs |= {(name, batch): warm(*peer(batch, tuned=tuned)) for batch in batches}
        except Exception as error:  # whatever it is: the others are measured, and this is told
            unavailable.append({"peer": name, "reason": f"{type(error).__name__}: {error}"})
    return jobs, unavailable


def warm(struck: Target, step: Step) -> tuple[Target, Step]:
    """Raises RuntimeError where no fault of TRIES batches changes a logit: no speed for nothing."""
    if all(torch.equal(step(), struck.golden) for _ in range(TRIES)):
        raise RuntimeError(
            f"{TRIES} batches of faults changed no logit; tools/install_peers has what was tried"
        )
    return struck, step


def rate(struck: Target, step: Step, seconds: float) -> float:
    """Injections a second, verdicts in the time."""
    count, critical, answers, start = 0, 0, struck.golden.argmax(1), time.perf_counter()
    while time.perf_counter() - start < seconds:
        critical += int((step().argmax(1) != answers).sum())
        count += len(answers)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()

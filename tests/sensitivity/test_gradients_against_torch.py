"""Gradients of whole networks, with respect to every activation, weight and input, against PyTorch's own.

PyTorch builds and exports the network; a tensor of the file is an activation of PyTorch's if it has its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from emulator.graph.session import with_outputs
from emulator.sensitivity.backward import gradient_model

pytestmark = pytest.mark.slow

Arrays = dict[str, npt.NDArray[np.float32]]
BATCH, CLASSES = 2, 10


def resnet20(torch: Any) -> Any:
    """He et al. 2016, section 4.2, batch normalisation folded; projections where the shape changes."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = (
                nn.Conv2d(inputs, outputs, 3, stride, 1),
                nn.Conv2d(outputs, outputs, 3, 1, 1),
            )
            self.short = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)
            self.relu, self.last = nn.ReLU(), nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.last(self.second(self.relu(self.first(x))) + self.short(x))

    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in pairwise(widths)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), *blocks, *head)


def mobilenet(torch: Any) -> Any:
    """Depthwise, squeeze and excitation, HardSwish: two blocks as in MobileNetV3 (Howard et al. 2019)."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.widen, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
            self.depthwise = nn.Conv2d(2 * width, 2 * width, 5, padding=2, groups=2 * width)
            self.squeeze = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * width, 8, 1), nn.ReLU(),
                nn.Conv2d(8, 2 * width, 1), nn.Hardsigmoid(),
            )  # fmt: skip
            self.before, self.after = nn.Hardswish(), nn.Hardswish()

        def forward(self, x: Any) -> Any:
            wide = self.after(self.depthwise(self.before(self.widen(x))))
            return x + self.narrow(wide * self.squeeze(wide))

    stem = nn.Conv2d(3, 16, 3, 2, 1), nn.Hardswish()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 32), nn.Hardswish(), nn.Linear(32, CLASSES)
    return nn.Sequential(*stem, Block(16), Block(16), *head)


def transformer(torch: Any) -> Any:
    """One pre-norm block over patches (Vaswani et al. 2017; Dosovitskiy et al. 2021)."""
    nn = torch.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, width: int = 32, heads: int = 4) -> None:
            super().__init__()
            self.heads = heads
            self.patches, self.mixed, self.soft = (
                nn.Conv2d(3, width, 8, 8),
                nn.Linear(width, width),
                nn.Softmax(-1),
            )
            # A bias of the keys would have no gradient: softmax does not see it.
            self.query, self.key, self.value = (nn.Linear(width, width, bias=i != 1) for i in range(3))
            self.norm, self.norm2, self.head = (
                nn.LayerNorm(width),
                nn.LayerNorm(width),
                nn.Linear(width, CLASSES),
            )
            self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

        def forward(self, image: Any) -> Any:
            x = self.patches(image).flatten(2).transpose(1, 2)
            y = self.norm(x)
            split = [
                f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for f in (self.query, self.key, self.value)
            ]
            weight = self.soft(split[0] @ split[1].transpose(-2, -1) * 8**-0.5)
            x = x + self.mixed((weight @ split[2]).transpose(1, 2).flatten(2))
            return self.head((x + self.mlp(self.norm2(x))).mean(1))

    return Network()


@pytest.mark.parametrize(("network", "tensors"), [(resnet20, 88), (mobilenet, 56), (transformer, 25)])
def test_every_tensor(network: Callable[[Any], Any], tensors: int, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = network(torch).eval()
    for vector in (parameter for parameter in module.parameters() if parameter.ndim == 1):
        vector.data += 0.1 * torch.randn_like(vector)  # else those of two normalisations are alike
    image, seed = torch.randn(BATCH, 3, 32, 32, requires_grad=True), torch.randn(BATCH, CLASSES)
    expected = dict(torch_tensors(module, image, seed))
    file = tmp_path / "network.onnx"
    torch.onnx.export(module, (image.detach(),), file, input_names=["image"], opset_version=18, verbose=False)
    model = onnx.load(file)

    names = matching(model, image.detach().numpy(), {name: value for name, (value, _) in expected.items()})
    graded = gradient_model(model, list(names), loss="seed")
    found = ort.InferenceSession(graded.SerializeToString()).run(
        [f"grad:{name}" for name in names], {"image": image.detach().numpy(), "seed": seed.numpy()}
    )
    worst = 0.0
    for (name, theirs), ours in zip(names.items(), found, strict=True):
        gradient = expected[theirs][1]
        assert np.abs(gradient).max() > 0, name
        worst = max(worst, float(np.abs(ours - gradient).max() / np.abs(gradient).max()))
    print(f"\n{network.__name__}: {len(names)} tensors, worst {worst:.1e}")
    assert len(names) >= tensors
    assert worst < 1e-4


def torch_tensors(module: Any, image: Any, seed: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Name, value and gradient of what every submodule returns, of the parameters and of the input."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            output.retain_grad()
            outputs[name] = output

        return hook

    hooks = [part.register_forward_hook(keep(name)) for name, part in module.named_modules() if name]
    (module(image) * seed).sum().backward()
    for hook in hooks:
        hook.remove()
    for name, tensor in {**outputs, **dict(module.named_parameters()), "image": image}.items():
        yield name, (tensor.detach().numpy(), tensor.grad.numpy())


def matching(model: onnx.ModelProto, image: npt.NDArray[np.float32], theirs: Arrays) -> dict[str, str]:
    """Tensors of the file, and the name PyTorch has for the same values."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = [name for node in model.graph.node for name in node.output]
    session = ort.InferenceSession(with_outputs(model, made).SerializeToString())
    ours = {**constants, "image": image, **dict(zip(made, session.run(made, {"image": image}), strict=True))}
    result: dict[str, str] = {}
    for name, value in ours.items():
        for other, wanted in theirs.items():
            same = value.dtype == np.float32 and value.shape == wanted.shape
            if same and other not in result.values() and np.allclose(value, wanted, rtol=1e-4, atol=1e-5):
                result[name] = other
                break
    return result

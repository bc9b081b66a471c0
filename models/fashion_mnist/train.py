"""Train, export and quantise the Fashion-MNIST network bundled with the project.

Usage: python models/fashion_mnist/train.py --data DIR [--out DIR] [--epochs N] [--seed N]
"""

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad, relu

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import export  # noqa: E402
import training  # noqa: E402

IMAGE_SHAPE = (1, 28, 28)
SHIFT_PIXELS = 2
CALIBRATION_IMAGES = 2000
BUNDLED_IMAGES = 1000
IDX_PREFIX = {"train": "train", "test": "t10k"}


class FashionCnn(nn.Module):
    """Two residual stages, each a depthwise separable step and a 3x3 convolution; pixels/255 to 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = export.ConvNorm(1, 16, 3)
        self.pool1 = nn.MaxPool2d(2)
        self.block1_dw = export.ConvNorm(16, 16, 3, groups=16)
        self.block1_pw = export.ConvNorm(16, 32, 1)
        self.block1_conv = export.ConvNorm(32, 32, 3)
        self.pool2 = nn.MaxPool2d(2)
        self.block2_dw = export.ConvNorm(32, 32, 3, groups=32)
        self.block2_pw = export.ConvNorm(32, 48, 1)
        self.block2_conv = export.ConvNorm(48, 48, 3)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(relu(self.conv1(x)))
        x = relu(self.block1_pw(relu(self.block1_dw(x))))
        x = self.pool2(relu(self.block1_conv(x) + x))
        x = relu(self.block2_pw(relu(self.block2_dw(x))))
        x = self.avgpool(relu(self.block2_conv(x) + x))
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def shift_and_flip(images: Tensor, random: torch.Generator) -> Tensor:
    """Each image mirrored with probability 1/2 and moved by up to SHIFT_PIXELS in either direction."""
    n, _, height, width = images.shape
    mirrored = torch.rand(n, 1, 1, 1, generator=random) < 0.5
    framed = pad(torch.where(mirrored, images.flip(3), images), (SHIFT_PIXELS,) * 4)
    down, right = torch.randint(2 * SHIFT_PIXELS + 1, (2, n, 1), generator=random)
    rows = (down + torch.arange(height))[:, :, None]
    columns = (right + torch.arange(width))[:, None, :]
    return framed[torch.arange(n)[:, None, None], 0, rows, columns][:, None]


def load(folder: Path, split: str) -> tuple[export.Floats, export.Labels]:
    """Inputs (n, 1, 28, 28) float32 in [0, 1] and labels (n,) int64 of `split` ("train" or "test").

    `folder` holds fashion_mnist_{split}.npz (`images`, `labels`) or the original IDX files (*-ubyte.gz).
    """
    archive = folder / f"fashion_mnist_{split}.npz"
    if archive.exists():
        with np.load(archive) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    else:
        images = read_idx(folder / f"{IDX_PREFIX[split]}-images-idx3-ubyte.gz", header_bytes=16)
        labels = read_idx(folder / f"{IDX_PREFIX[split]}-labels-idx1-ubyte.gz", header_bytes=8)
    return images.reshape(-1, *IMAGE_SHAPE).astype(np.float32) / 255, labels.astype(np.int64)


def read_idx(path: Path, header_bytes: int) -> NDArray[np.uint8]:
    """The bytes of a gzipped IDX file after its header, flat."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header_bytes)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the npz or IDX files")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the ONNX files and test.npz")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    training.start(args.seed)
    inputs, labels = load(args.data, "train")
    network = FashionCnn()
    recipe = training.Recipe(epochs=args.epochs, batch=128, peak_rate=0.01, weight_decay=0.01, seed=args.seed)
    training.fit(network, torch.from_numpy(inputs), torch.from_numpy(labels), recipe, shift_and_flip)
    test_inputs, test_labels = load(args.data, "test")
    bundle = export.Bundle(
        name="fashion_cnn",
        calibration=inputs[:CALIBRATION_IMAGES],
        inputs=test_inputs,
        labels=test_labels,
        bundled=BUNDLED_IMAGES,
    )
    export.write(network, bundle, args.out)


if __name__ == "__main__":
    main()

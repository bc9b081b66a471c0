"""Train, export and quantise the 8x8 digits network: small enough to strike every accumulator bit.

Usage: python models/digits/train.py [--out DIR] [--epochs N] [--seed N]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import relu

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import export  # noqa: E402
import training  # noqa: E402

TEST_IMAGES = 500
SPLIT_SEED = 0


class DigitsCnn(nn.Module):
    """Two 3x3 convolutions and a classifier, 394 accumulators; pixels/16 to 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(relu(self.conv1(x)))
        logits: Tensor = self.fc(relu(self.conv2(x)).flatten(1))
        return logits


def load() -> tuple[export.Floats, export.Floats, export.Labels, export.Labels]:
    """Training and test inputs (n, 1, 8, 8) float32 in [0, 1], then training and test labels (n,) int64."""
    digits = load_digits()
    inputs = digits.images[:, None].astype(np.float32) / 16
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_IMAGES, random_state=SPLIT_SEED, stratify=labels
    )
    return inputs[train], inputs[test], labels[train], labels[test]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the ONNX files and test.npz")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    training.start(args.seed)
    inputs, test_inputs, labels, test_labels = load()
    network = DigitsCnn()
    recipe = training.Recipe(epochs=args.epochs, batch=32, peak_rate=0.01, weight_decay=0.01, seed=args.seed)
    training.fit(network, torch.from_numpy(inputs), torch.from_numpy(labels), recipe)
    bundle = export.Bundle(
        name="digits_cnn",
        calibration=inputs,
        inputs=test_inputs,
        labels=test_labels,
        bundled=TEST_IMAGES,
    )
    export.write(network, bundle, args.out)


if __name__ == "__main__":
    main()

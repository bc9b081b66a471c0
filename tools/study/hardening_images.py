"""The images that docs/hardening.md trains on, judges epochs on, and strikes.

    .venv/bin/python tools/study/hardening_images.py DATA OUT

DATA holds fashion_mnist_train.npz, fashion_mnist_test.npz, cifar10_test.npz and cifar10_train_calib1000.npz (`images`
uint8, `labels`; CIFAR-10 as (n, 32, 32, 3)). Of Fashion-MNIST the first 57,000 training images train, the last 3,000
judge, all test images test. Of CIFAR-10 only test images and 1,000 training images are at hand: the first 2,000 test
images are struck at the end, the next 2,000 judge, the others train, with the 1,000, each COPIES times: as it is,
mirrored, and moved by up to SHIFT pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

COPIES = 5
SHIFT = 3


def main() -> None:
    """Write fashion_{train,judge,test}.npz and cifar_{train,judge,test}.npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    images, labels = read(wanted.data / "fashion_mnist_test.npz")
    write(wanted.out / "fashion_test.npz", images[:, np.newaxis] / np.float32(255), labels)
    images, labels = read(wanted.data / "fashion_mnist_train.npz")
    images = images[:, np.newaxis] / np.float32(255)
    write(wanted.out / "fashion_train.npz", images[:57_000], labels[:57_000])
    write(wanted.out / "fashion_judge.npz", images[57_000:], labels[57_000:])
    images, labels = read(wanted.data / "cifar10_test.npz")
    images = images.transpose(0, 3, 1, 2)
    write(wanted.out / "cifar_test.npz", images[:2000], labels[:2000])
    write(wanted.out / "cifar_judge.npz", images[2000:4000], labels[2000:4000])
    more, their_labels = read(wanted.data / "cifar10_train_calib1000.npz")
    train = np.concatenate((images[4000:], more.transpose(0, 3, 1, 2)))
    labels = np.concatenate((labels[4000:], their_labels))
    rng = np.random.default_rng(0)
    copies = [train, train[..., ::-1], *(moved(train, rng) for _ in range(COPIES - 2))]
    write(wanted.out / "cifar_train.npz", np.concatenate(copies), np.tile(labels, COPIES))


def read(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images as float32, and labels."""
    with np.load(path) as arrays:
        return arrays["images"].astype(np.float32), arrays["labels"].astype(np.int64)


def moved(images: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Each image mirrored or not, and moved by up to SHIFT pixels, its edges reflected."""
    wide = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="reflect")
    height, width = images.shape[2:]
    found = np.empty_like(images)
    places = rng.integers(0, 2 * SHIFT + 1, (len(images), 2)).tolist()
    for i, (down, right) in enumerate(places):
        found[i] = wide[i, :, down : down + height, right : right + width]
    mirrored = rng.random(len(images)) < 0.5
    found[mirrored] = found[mirrored, ..., ::-1]
    return found


def write(path: Path, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
    """An npz as `--inputs` takes it."""
    np.savez(path, inputs=images, labels=labels)


if __name__ == "__main__":
    main()

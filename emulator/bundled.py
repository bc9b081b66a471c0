"""The models and images that ship with the package, for the tour and for trying things out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Paths of an int8 model, its float original, and test images with labels (npz: inputs, labels)."""

    model: Path
    float_model: Path
    inputs: Path


def fashion_mnist() -> Bundle:
    """A small CNN on Fashion-MNIST and 1,000 test images."""
    return _bundle("fashion_mnist", "fashion_cnn")


def digits() -> Bundle:
    """A tiny CNN on scikit-learn's 8x8 digits, small enough for exhaustive campaigns."""
    return _bundle("digits", "digits_cnn")


def _bundle(folder: str, name: str) -> Bundle:
    root = Path(str(files("emulator.models"))) / folder
    return Bundle(
        model=root / f"{name}_int8.onnx", float_model=root / f"{name}_float.onnx", inputs=root / "test.npz"
    )

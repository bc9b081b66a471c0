"""Answers about the emulator itself: info, schema."""

from __future__ import annotations

from typing import Any

from pydantic import RootModel

from emulator.cli.schemas.parts import Schema


class Info(Schema):
    """What the emulator runs on."""

    emulator: str
    """version"""
    instructions: str
    """that kernels use"""
    why: str
    """these"""
    available: list[str]
    """others, fastest first"""
    processors: int
    """of this machine"""
    python: str
    """version"""
    numba: str
    """version"""
    numpy: str
    """version"""
    onnx: str
    """version"""
    onnxruntime: str
    """version"""


class Schemas(RootModel[dict[str, dict[str, Any]]]):
    """By command: the JSON Schema (2020-12) of its --json."""

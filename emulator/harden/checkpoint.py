"""A training on disk: DIR/manifest.json, what it is; DIR/checkpoint.npz, where it stands after its last epoch;
DIR/hardened.onnx, once it is finished."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emulator.campaign.files import as_json, read_object, write_atomically
from emulator.campaign.manifest import differences
from emulator.campaign.one_writer import LOCK
from emulator.errors import BadConfig, BadData
from emulator.harden.optimisers import Arrays
from emulator.harden.trainable import State
from emulator.harden.training import Course

SCHEMA = 5
MODEL = "hardened.onnx"

_MANIFEST, _CHECKPOINT = "manifest.json", "checkpoint.npz"
# Where in a manifest the options of `emulator train` are, if they are not called so there: the first beginning that
# fits.
_OPTIONS = {
    "model.shapes": "--shape",
    "model.answer": "--answer",
    "model": "MODEL",
    "validation.inputs": "samples that judge (--validation, else the last fifth of --inputs)",
    "inputs": "samples to train on (--inputs, --limit, --validation)",
    "array": "--array",
    "sampler": "--sampler",
    "registers": "--registers",
    "layers": "--layers",
}

# What hashes in a manifest are of.
_CONTENT = {"sha256": "content", "labels": "labels"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """course: after the last epoch; best: the state that is to be kept so far; history: of each epoch."""

    course: Course
    best: State
    history: list[dict[str, Any]] = field(repr=False)


def holds_training(directory: Path) -> bool:
    """Does it, so far as its manifest can be read?"""
    try:
        return "training" in read_object(directory / _MANIFEST, "")
    except (FileNotFoundError, BadData):
        return False


def open_directory(directory: Path, settings: dict[str, Any]) -> None:
    """Starts a training there, or checks that it holds this one; raises BadConfig if it holds anything else."""
    wanted = as_json({"schema": SCHEMA, "training": settings}, "training")
    path = directory / _MANIFEST
    if not path.exists():
        if directory.exists() and (
            not directory.is_dir() or any(e.name != LOCK for e in directory.iterdir())
        ):
            raise BadConfig(
                f"{directory} is not empty and no training; nothing was written. Choose another -o, or empty it."
            )
        write_atomically(path, (json.dumps(wanted, indent=2) + "\n").encode())
        return
    _check_same(directory, settings_in(directory), wanted["training"])


def settings_in(directory: Path) -> dict[str, Any]:
    """What the training in a directory is; raises BadConfig if it holds none, or one of another version."""
    path = directory / _MANIFEST
    stored = read_object(path, f"Restore the file, or delete {directory} and train again.")
    if "training" not in stored:
        raise BadConfig(
            f"{directory} holds no training (a campaign?); nothing was written. Choose another -o."
        )
    if stored.get("schema") != SCHEMA:
        raise BadConfig(
            f"{path}: schema {stored.get('schema')!r}, of another version; allowed: {SCHEMA}. Choose another -o to "
            "train again, or read it with the version that wrote it."
        )
    settings: dict[str, Any] = stored["training"]
    return settings


def _check_same(directory: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises BadConfig that names each option that differs."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for key, there, asked in differences(stored, wanted):
        # A file is known by its content; its name is for people.
        if key != "model.name":
            option, part = _option(key)
            found.setdefault(option, []).append((part, there, asked))
    if not found:
        return
    lines = "\n".join(f"  {option}: {_difference(parts)}" for option, parts in found.items())
    longer = (
        "\nMore epochs are another training: its rates and ranges follow from their number. To train on, take "
        f"{directory / MODEL}, an ordinary model once it is written, and another -o."
    )
    raise BadConfig(
        f"{directory} holds another training; nothing was written. Different:\n{lines}\n"
        "To keep it, choose another -o; to replace it, delete the directory; to resume, undo the change."
        + (longer if "--epochs" in found else "")
    )


def _option(key: str) -> tuple[str, str]:
    """The option that a key of the manifest comes from, and the part of its value, "" for all of it."""
    for start, option in _OPTIONS.items():
        if key == start or key.startswith(f"{start}."):
            part = key.removeprefix(start).removeprefix(".")
            return option, "" if part.isdigit() else part
    return f"--{key.rpartition('.')[2].replace('_', '-')}", ""


def _difference(parts: list[tuple[str, str, str]]) -> str:
    # What it is called, or how many they are, tells why the rest differs.
    telling = [found for found in parts if found[0] in ("name", "samples")]
    if telling:
        return "; ".join(f"{there} there, {asked} asked" for _, there, asked in telling)
    return "; ".join(
        f"other {_CONTENT[part]}" if part in _CONTENT else f"{part} {there} there, {asked} asked".strip()
        for part, there, asked in parts
    )


def kept_of(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch that is the best so far."""
    return [epoch for epoch in history if epoch["kept"]][-1]


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replaces the one before, whole or not at all."""
    arrays: dict[str, Any] = {
        "epoch": np.int64(checkpoint.course.epoch),
        "history": json.dumps(checkpoint.history),
    }
    for place, state in (("now", checkpoint.course.state), ("best", checkpoint.best)):
        arrays |= {f"{place}/real/{name}": array for name, array in state.real.items()}
        arrays |= {f"{place}/scale/{name}": array for name, array in state.scale.items()}
    for kind, kept in checkpoint.course.memory.items():
        arrays |= {f"memory/{kind}/{name}": array for name, array in kept.items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_atomically(directory / _CHECKPOINT, file.getvalue())


def read(directory: Path) -> Checkpoint | None:
    """The last one, None before the first epoch is done; BadData if it can't be read."""
    path = directory / _CHECKPOINT
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        memory: dict[str, Arrays] = {}
        for name, array in _under(arrays, "memory/").items():
            kind, _, parameter = name.partition("/")
            memory.setdefault(kind, {})[parameter] = array
        course = Course(epoch=int(arrays["epoch"]), state=_state(arrays, "now/"), memory=memory)
        history = json.loads(str(arrays["history"]))
    except Exception as error:  # zipfile, numpy and json each have their own for a damaged file
        raise BadData(
            f"{path}: unreadable ({error}). Delete it to train from the start, or restore it."
        ) from error
    return Checkpoint(course=course, best=_state(arrays, "best/"), history=history)


def _state(arrays: dict[str, Any], start: str) -> State:
    return State(real=_under(arrays, f"{start}real/"), scale=_under(arrays, f"{start}scale/"))


def _under(arrays: dict[str, Any], start: str) -> dict[str, Any]:
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}

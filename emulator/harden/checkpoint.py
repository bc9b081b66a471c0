"""A training on disk: DIR/manifest.json, what it is; DIR/checkpoint.npz, where it stands after its last epoch."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emulator.campaign.files import as_json, read_object, write_atomically
from emulator.campaign.one_writer import LOCK
from emulator.errors import BadConfig, BadData
from emulator.harden.optimisers import Arrays
from emulator.harden.trainable import State
from emulator.harden.training import Course

SCHEMA = 4

_MANIFEST, _CHECKPOINT = "manifest.json", "checkpoint.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """course: after the last epoch; best: the state that is to be kept so far; history: of each epoch."""

    course: Course
    best: State
    history: list[dict[str, Any]] = field(repr=False)


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
    stored = read_object(path, f"Restore the file, or delete {directory} and train again.")
    if "training" not in stored:
        raise BadConfig(
            f"{directory} holds no training (a campaign?); nothing was written. Choose another -o."
        )
    different = [
        key for key in wanted["training"] if stored.get("training", {}).get(key) != wanted["training"][key]
    ]
    if stored.get("schema") != SCHEMA or different:
        raise BadConfig(
            f"{directory} holds another training; different: {', '.join(different) or 'the version'}; nothing was "
            "written. To keep it, choose another -o; to replace it, delete the directory; to resume, undo the change."
        )


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

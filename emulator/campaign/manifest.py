"""DIR/manifest.json: what makes a campaign this one. Nothing is written into a directory that is another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.campaign.files import as_json, is_leftover, read_object, write_atomically
from emulator.campaign.one_writer import LOCK
from emulator.errors import BadConfig, BadData

Manifest = Mapping[str, Any]

SCHEMA = 6
"""Of manifest and trials: 2 since a row may stand for many sites, 3 since trials have a score, 4 since the manifest
knows whether any run of the campaign was to stop on what it found, 5 since a part knows which chunk it is, 6 since a
finished campaign knows its trials, and `learn` is called so."""

_MANIFEST = "manifest.json"
TRIALS = "trials"
"""The folder of the parts."""
# A rerun may ask for more trials of the same campaign.
_EXTENDABLE = ("stop", "looked", "finished_trials", "stopped_by")


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of `directory`; BadConfig if there is none, BadData if it can't be read."""
    path = directory / _MANIFEST
    try:
        manifest = read_object(path, fresh_start(directory))
    except FileNotFoundError:
        _refuse_without_manifest(directory)
        raise BadConfig(
            f"{directory}: not a campaign directory (no {_MANIFEST}). "
            "Give the -o directory of an `emulator run`."
        ) from None
    if "training" in manifest:
        raise BadConfig(
            f"{directory} is a training, not a campaign; allowed: the -o directory of an `emulator run`. Run one "
            "on its hardened.onnx; `emulator status` says how far the training is."
        )
    if manifest.get("schema") != SCHEMA:
        raise BadData(
            f"{path}: schema {manifest.get('schema')!r}, of another version; allowed: {SCHEMA}. Choose another -o to "
            "run the campaign again, or read it with the version that wrote it."
        )
    return manifest


def check_manifest(directory: Path, manifest: Manifest) -> dict[str, Any] | None:
    """What `directory` holds of this campaign, its manifest (a rerun resumes it); None if it is absent or empty.

    Raises BadConfig, naming each difference, if it holds another campaign, or anything else.
    """
    if not (directory / _MANIFEST).exists():
        _refuse_foreign(directory)
        return None
    stored = read_manifest(directory)
    different = differences(stored, as_json(manifest, "manifest"))
    if different:
        lines = "\n".join(f"  {key}: stored {a}, new {b}" for key, a, b in different)
        raise BadConfig(
            f"{directory} holds another campaign; nothing was written. Different:\n{lines}\n"
            "To keep it, choose another -o; to replace it, delete the directory; to resume, undo the change."
        )
    return stored


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Starts a campaign in `directory`, or extends it; whether it may is for `check_manifest` to say."""
    text = json.dumps(as_json(manifest, "manifest"), indent=2, ensure_ascii=False) + "\n"
    write_atomically(directory / _MANIFEST, text.encode())


def _refuse_foreign(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise BadConfig(f"{directory} is a file; nothing was written. Choose another -o.")
    _refuse_without_manifest(directory)
    if directory.is_dir() and any(not _is_ours(entry) for entry in directory.iterdir()):
        raise BadConfig(
            f"{directory} is not empty and not a campaign directory; nothing was written. "
            "Choose another -o, or empty it."
        )


def _refuse_without_manifest(directory: Path) -> None:
    if any((directory / TRIALS).glob("part-*.parquet")):
        raise BadConfig(
            f"{directory} has trials and no {_MANIFEST}, which says of what campaign; nothing was written. Restore it: "
            f"start the same campaign with another -o and copy its {_MANIFEST} here."
        )


def _is_ours(path: Path) -> bool:
    return path.name == LOCK or is_leftover(path)


def differences(stored: Manifest, new: Manifest) -> list[tuple[str, str, str]]:
    """(dotted key, stored, new) of all that makes them two campaigns."""
    return _differences(_identity(stored), _identity(new))


def _identity(manifest: Manifest) -> dict[str, Any]:
    """What makes two manifests one campaign: not the stop rule, and content, not where a file lies."""
    return {key: _without_path(value) for key, value in manifest.items() if key not in _EXTENDABLE}


def _without_path(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_path(part) for key, part in value.items() if key != "path"}


def _differences(stored: Any, new: Any, key: str = "") -> list[tuple[str, str, str]]:
    """(dotted key, stored, new) of every leaf that differs."""
    if isinstance(stored, dict) and isinstance(new, dict):
        inner = ((k, stored.get(k, _ABSENT), new.get(k, _ABSENT)) for k in sorted({*stored, *new}))
        return [d for k, a, b in inner for d in _differences(a, b, f"{key}.{k}" if key else k)]
    if isinstance(stored, list) and isinstance(new, list) and len(stored) == len(new):
        pairs = enumerate(zip(stored, new, strict=True))
        return [d for i, (a, b) in pairs for d in _differences(a, b, f"{key}.{i}")]
    return [] if stored == new else [(key, _short(stored), _short(new))]


_ABSENT = object()


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fresh_start(directory: Path) -> str:
    """What to do where a manifest is damaged."""
    return (
        f"The trials are not lost: start the same campaign with another -o and copy its {_MANIFEST} here; "
        f"or delete {directory} and run it again."
    )


def campaign_digest(directory: Path) -> str:
    """Names the campaign of a directory; a part carries it, so that a stray part is noticed."""
    identity = json.dumps(_identity(read_manifest(directory)), sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()

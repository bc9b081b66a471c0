"""An ONNX file as it lies on the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from emulator.errors import BadConfig, UnsupportedModel


def read_onnx(file: Path) -> tuple[onnx.ModelProto, str]:
    """The model, with what it keeps in files beside it, and the SHA-256 of all of them; not yet checked.

    Raises UnsupportedModel for what is not an ONNX file.
    """
    try:
        digest = hashlib.sha256(file.read_bytes())
    except OSError as error:
        raise UnsupportedModel(
            f"model {str(file)!r} is not a file that can be read ({error.strerror}); allowed: an ONNX file. "
            "Check the path."
        ) from error
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's own
        raise UnsupportedModel(
            f"model {str(file)!r} can't be read as ONNX: {error or type(error).__name__}. Export it again."
        ) from error
    outside = _outside(model)
    if outside:
        try:
            load_external_data_for_model(model, str(file.parent))
        except Exception as error:  # OSError, or onnx's check of where the data lies
            raise UnsupportedModel(
                f"model {str(file)!r} keeps tensor {outside[0].name!r} in a file beside it that can't be read "
                f"({error}). Put the file there."
            ) from error
        for tensor in outside:
            digest.update(tensor.raw_data)
    return model, digest.hexdigest()


def files_beside(file: Path) -> list[Path]:
    """Where a model keeps tensors in other files; none of what can't be read as ONNX."""
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception:  # protobuf's own, or OSError: `read_onnx` tells
        return []
    places = [ExternalDataInfo(tensor).location for tensor in _outside(model)]
    return [file.parent / place for place in dict.fromkeys(places)]


def _outside(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Whole or not at all; raises BadConfig where it can't be written."""
    if not path.parent.is_dir():
        raise BadConfig(f"output {str(path)!r}: {str(path.parent)!r} is not a folder. Create it first.")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        onnx.save(model, unfinished)
        unfinished.replace(path)
    except (OSError, ValueError) as error:
        unfinished.unlink(missing_ok=True)
        raise BadConfig(f"output {str(path)!r} can't be written: {error}. Choose another place.") from error

"""What a model takes: its inputs, their free dimensions, and data for them, from a file or drawn from a seed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.errors import BadConfig, BadData

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Shapes = Mapping[str, Sequence[int]]
Data = str | Path | Array | Mapping[str, Array]


def model_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs a user feeds: those without a value of their own."""
    given = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in given]


def dimensions(value: onnx.ValueInfoProto) -> list[int | str]:
    """Each dimension a number, or the name of a free one (`?` without a name)."""
    found = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in found]


def parse_shapes(texts: Sequence[str] | None) -> dict[str, list[int]]:
    """`NAME=1,3,8,8` to {"NAME": [1, 3, 8, 8]}; raises BadConfig."""
    shapes = {}
    for text in texts or ():
        name, _, numbers = text.rpartition("=")
        try:
            shapes[name] = [int(part) for part in numbers.split(",")]
        except ValueError:
            raise BadConfig(f"shape {text!r}; allowed: NAME=1,3,224,224. Write it so.") from None
    return shapes


def fixed_shapes(model: onnx.ModelProto, shapes: Shapes) -> onnx.ModelProto:
    """A copy whose inputs have these shapes, batch included; raises BadConfig where they contradict the model."""
    from onnxruntime.tools.onnx_model_utils import make_input_shape_fixed

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name: dimensions(value) for value in model_inputs(model)}
    for name, shape in shapes.items():
        if name not in known:
            raise BadConfig(f"shape of {name!r}; allowed: {', '.join(known)}. Name an input of the model.")
        fits = len(shape) == len(known[name]) and all(
            isinstance(dim, str) or dim == size for dim, size in zip(known[name], shape, strict=True)
        )
        if not fits or min(shape, default=1) < 1:
            wanted = ",".join(map(str, known[name]))
            raise BadConfig(
                f"shape {tuple(shape)} of {name!r}; allowed: {wanted}, a number of 1 or more for each name. "
                f"Give --shape {name}={wanted} with numbers."
            )
        # The batch stays free where it is: samples come in any number.
        batch = copy.graph.input[[v.name for v in copy.graph.input].index(name)].type.tensor_type.shape.dim
        free = onnx.TensorShapeProto.Dimension()
        free.CopyFrom(batch[0] if batch else free)
        make_input_shape_fixed(copy.graph, name, list(shape))
        if shape[:1] == [1] and batch:
            batch[0].CopyFrom(free)
    return copy


def sample_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape of one sample, without the batch; raises BadConfig for free dimensions other than the batch."""
    dims = dimensions(value)
    free = [dim for dim in dims[1:] if isinstance(dim, str)]
    if free or not dims:
        wanted = ",".join(map(str, dims))
        raise BadConfig(
            f"input {value.name!r} has free dimensions ({wanted}); allowed: only the batch, the first, may be free. "
            f"Give --shape {value.name}=1,... with a number for each of the {len(dims)} dimensions."
        )
    return tuple(int(dim) for dim in dims[1:])


def seeded_inputs(model: onnx.ModelProto, *, samples: int = 8, seed: int = 0) -> Arrays:
    """(samples, ...) for each input, as `drawn` draws them."""
    random = np.random.default_rng(seed)
    return {
        value.name: drawn(random, (samples, *sample_shape(value)), _dtype(value))
        for value in model_inputs(model)
    }


def drawn(random: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Standard normal reals, whole bytes, and 0 or 1 of anything else: indices and token numbers must stay small."""
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(shape).astype(dtype)
    if dtype == np.bool_:
        return random.random(shape) < 0.5
    return random.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)


def read_feeds(model: onnx.ModelProto, data: Data, limit: int | None = None) -> Arrays:
    """(samples, ...) for each input of the model: an .npz (array named like the input, else `inputs` where there is
    one input), a dictionary, or the array itself; the first `limit` samples.

    Raises BadData for a missing file or array, a wrong type or shape, no sample, NaN or infinity.
    """
    wanted = model_inputs(model)
    if isinstance(data, np.ndarray):
        arrays: Mapping[str, Array] = {"inputs": data}
        where = "the array"
    elif isinstance(data, Mapping):
        arrays, where = data, "the arrays"
    else:
        arrays, where = read_npz(Path(data)), repr(str(data))
    chosen = {}
    for value in wanted:
        name = value.name if value.name in arrays or len(wanted) > 1 else "inputs"
        if name not in arrays:
            raise BadData(
                f"{where} holds {', '.join(arrays) or 'nothing'}; allowed: an array for each of "
                f"{', '.join(v.name for v in wanted)} ('inputs' will do for a single one). Rename it."
            )
        chosen[value.name] = np.asarray(arrays[name])[:limit]
        check_array(value.name, chosen[value.name], dimensions(value)[1:], _dtype(value), where)
    check_counts(chosen, where)
    return chosen


def read_npz(path: Path) -> Arrays:
    """Every array of an .npz; raises BadData for a missing or damaged file."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_size(archive, entry)
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except FileNotFoundError:
        raise BadData(f"data {str(path)!r} is not a file; allowed: an .npz file. Check the path.") from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged file
        raise BadData(
            f"data {str(path)!r} can't be read as npz ({type(error).__name__}). Write it with numpy.savez."
        ) from error


def _check_size(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """An array must be as large as its file, or a few bytes could ask for any amount of memory."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if size != entry.file_size - file.tell():
            raise ValueError(f"{entry.filename}: {shape} {dtype} in {entry.file_size} bytes")


def check_array(
    name: str, array: Array, sample: Sequence[int | str], dtype: np.dtype[Any], where: str
) -> None:
    """Raises BadData for what is not (samples, *sample) of this type and finite. sample: names are free dimensions."""
    pairs = zip(sample, array.shape[1:], strict=False)
    other = any(wanted != size for wanted, size in pairs if not isinstance(wanted, str))
    if array.ndim != len(sample) + 1 or len(array) == 0 or other:
        raise BadData(
            f"{where}: {name!r} of shape {array.shape}; allowed: (samples, {', '.join(map(str, sample))}) with at "
            "least one sample. Preprocess as the model expects."
        )
    if array.dtype != dtype:
        raise BadData(
            f"{where}: {name!r} is {array.dtype}; allowed: {dtype}, as the model takes it. Preprocess and convert "
            f"with .astype(numpy.{dtype})."
        )
    if np.issubdtype(dtype, np.floating):
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise BadData(
                f"{where}: sample {bad[0]} of {name!r} holds NaN or infinity; allowed: finite numbers. Clean the data."
            )


def check_counts(arrays: Mapping[str, Array], where: str) -> None:
    """Raises BadData where inputs have different numbers of samples."""
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise BadData(
            f"{where}: {counts} samples; allowed: as many of each input. Cut them to the same length."
        )


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def batches(model: onnx.ModelProto, arrays: Arrays) -> list[Arrays]:
    """The samples as the model takes them: its fixed batch at a time (a rest too small is left out), else one by
    one."""
    firsts = [dimensions(value)[:1] for value in model_inputs(model)]
    size = next((first[0] for first in firsts if first and isinstance(first[0], int)), 1)
    count = min(len(array) for array in arrays.values())
    if count < size:
        raise BadData(
            f"{count} samples for a fixed batch of {size}; allowed: {size} or more. Give more samples."
        )
    return [
        {name: array[at : at + size] for name, array in arrays.items()}
        for at in range(0, count - size + 1, size)
    ]

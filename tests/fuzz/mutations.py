"""Damaged and hostile files, each from a seed: model files first, then data (npz) and configurations (toml).

A mutation takes an undamaged file's bytes and a generator and returns other bytes. Some change bytes, whatever they
mean; the others change one thing that means something.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]
ModelEdit = Callable[[onnx.ModelProto, Rng], None]

SIZES = (-(1 << 63), -1, 0, 1, 2, 3, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1)
NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e-45, 1e-38, 3e38)
HUGE = 1 << 36


def one_of(rng: Rng, items: Sequence[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


# ---- bytes


def flip_bits(data: bytes, rng: Rng) -> bytes:
    found = bytearray(data)
    for at in rng.integers(0, max(1, len(data)), int(rng.integers(1, 9))):
        found[at] ^= 1 << int(rng.integers(8))
    return bytes(found)


def truncate(data: bytes, rng: Rng) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def overwrite(data: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 64))
    return data[:at] + rng.bytes(size) + data[at + size :]


def repeat(data: bytes, rng: Rng) -> bytes:
    """A stretch of the file twice: protobuf merges or appends what comes again."""
    first, last = np.sort(rng.integers(0, len(data), 2))
    return data[:last] + data[first:last] + data[last:]


def cut_out(data: bytes, rng: Rng) -> bytes:
    first, last = np.sort(rng.integers(0, len(data), 2))
    return data[:first] + data[last:]


def noise(data: bytes, rng: Rng) -> bytes:
    return rng.bytes(int(rng.integers(0, 2000)))


# ---- models


def edited(edit: ModelEdit) -> Mutation:
    """The mutation that makes one change to the parsed model."""

    def mutation(data: bytes, rng: Rng) -> bytes:
        model = onnx.load_model_from_string(data)
        edit(model, rng)
        return model.SerializeToString()

    mutation.__name__ = edit.__name__
    return mutation


def initializer_size(model: onnx.ModelProto, rng: Rng) -> None:
    tensor = one_of(rng, model.graph.initializer)
    if tensor.dims and rng.integers(2):
        tensor.dims[int(rng.integers(len(tensor.dims)))] = one_of(rng, SIZES)
    else:
        tensor.dims.append(one_of(rng, SIZES))


def initializer_type(model: onnx.ModelProto, rng: Rng) -> None:
    one_of(rng, model.graph.initializer).data_type = int(rng.integers(0, 30))


def initializer_bytes(model: onnx.ModelProto, rng: Rng) -> None:
    tensor = one_of(rng, model.graph.initializer)
    tensor.raw_data = rng.bytes(int(rng.integers(0, 2 * len(tensor.raw_data) + 2)))


def odd_numbers(model: onnx.ModelProto, rng: Rng) -> None:
    """NaN, infinity, zero, a negative or a denormal number among the float constants: scales, mostly."""
    floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
    if floats:
        tensor = one_of(rng, floats)
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[:: int(rng.integers(1, 3))] = one_of(rng, NUMBERS)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def constant_values(model: onnx.ModelProto, rng: Rng) -> None:
    """Impossible shapes, axes and indices: whatever int64 constants mean."""
    integers = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
    if integers:
        tensor = one_of(rng, integers)
        array = numpy_helper.to_array(tensor).copy()
        if array.size:
            array.reshape(-1)[int(rng.integers(array.size))] = one_of(rng, SIZES)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def input_shape(model: onnx.ModelProto, rng: Rng) -> None:
    shape = one_of(rng, model.graph.input).type.tensor_type.shape
    if shape.dim and rng.integers(4):
        shape.dim[int(rng.integers(len(shape.dim)))].dim_value = one_of(rng, SIZES)
    elif rng.integers(2):
        shape.dim.add().dim_value = one_of(rng, SIZES)
    else:
        shape.Clear()


def input_type(model: onnx.ModelProto, rng: Rng) -> None:
    value = one_of(rng, [*model.graph.input, *model.graph.output])
    if rng.integers(4):
        value.type.tensor_type.elem_type = int(rng.integers(0, 30))
    else:
        value.ClearField("type")


def attribute(model: onnx.ModelProto, rng: Rng) -> None:
    """An attribute with other numbers, of another kind, missing or twice."""
    node = one_of(rng, [n for n in model.graph.node if n.attribute] or model.graph.node)
    if not node.attribute:
        node.attribute.append(helper.make_attribute("axis", one_of(rng, SIZES)))
        return
    at = int(rng.integers(len(node.attribute)))
    found = node.attribute[at]
    how = int(rng.integers(5))
    if how == 0:
        del node.attribute[at]
    elif how == 1:
        node.attribute.append(found)
    elif how == 2:
        found.CopyFrom(helper.make_attribute(found.name, one_of(rng, ["nonsense", 1.5, [1, 2, 3], -7])))
    elif found.ints:
        found.ints[int(rng.integers(len(found.ints)))] = one_of(rng, SIZES)
    else:
        found.i = one_of(rng, SIZES)


def cycle(model: onnx.ModelProto, rng: Rng) -> None:
    """A node reads its own or a later result."""
    first = int(rng.integers(len(model.graph.node)))
    node = model.graph.node[first]
    later = one_of(rng, model.graph.node[first:])
    if node.input and later.output:
        node.input[int(rng.integers(len(node.input)))] = later.output[0]


def dangling(model: onnx.ModelProto, rng: Rng) -> None:
    node = one_of(rng, model.graph.node)
    names = one_of(rng, [node.input, node.output])
    if names:
        names[int(rng.integers(len(names)))] = one_of(rng, ["", "missing", "\x00", "a" * 100_000, "é/../x"])


def same_names(model: onnx.ModelProto, rng: Rng) -> None:
    """Two results, constants or nodes of one name."""
    nodes = [n for n in model.graph.node if n.output]
    one, other = one_of(rng, nodes), one_of(rng, nodes)
    how = int(rng.integers(3))
    if how == 0:
        one.output[0] = other.output[0]
    elif how == 1:
        one_of(rng, model.graph.initializer).name = one_of(rng, model.graph.initializer).name
    else:
        model.graph.initializer.add().CopyFrom(one_of(rng, model.graph.initializer))
        model.graph.initializer[-1].name = other.output[0]


def fewer_or_more_nodes(model: onnx.ModelProto, rng: Rng) -> None:
    at = int(rng.integers(len(model.graph.node)))
    if rng.integers(2):
        del model.graph.node[at]
    else:
        model.graph.node.append(model.graph.node[at])


def fewer_or_more_inputs(model: onnx.ModelProto, rng: Rng) -> None:
    node = one_of(rng, model.graph.node)
    if node.input and rng.integers(2):
        del node.input[int(rng.integers(len(node.input)))]
    else:
        node.input.append(one_of(rng, model.graph.initializer).name)


def other_operator(model: onnx.ModelProto, rng: Rng) -> None:
    ops = [
        "Conv",
        "MatMul",
        "Relu",
        "QLinearConv",
        "Loop",
        "Identity",
        "NonZero",
        "Reshape",
        "NoSuch",
        "",
        "If",
    ]
    node = one_of(rng, model.graph.node)
    if rng.integers(3):
        node.op_type = one_of(rng, [*ops, one_of(rng, model.graph.node).op_type])
    else:
        node.domain = one_of(rng, ["com.microsoft", "ai.onnx.ml", "qonnx.custom_op.general", "\x00"])


def versions(model: onnx.ModelProto, rng: Rng) -> None:
    how = int(rng.integers(4))
    if how == 0:
        model.ir_version = one_of(rng, SIZES)
    elif how == 1:
        one_of(rng, model.opset_import).version = one_of(rng, SIZES)
    elif how == 2:
        del model.opset_import[:]
    else:
        model.opset_import.add(domain="", version=one_of(rng, (1, 7, 13, 99)))


def outputs(model: onnx.ModelProto, rng: Rng) -> None:
    how = int(rng.integers(3))
    if how == 0:
        del model.graph.output[:]
    elif how == 1:
        model.graph.output[0].name = one_of(
            rng, ["missing", model.graph.input[0].name, model.graph.initializer[0].name]
        )
    else:
        model.graph.output.append(model.graph.output[0])


def empty_parts(model: onnx.ModelProto, rng: Rng) -> None:
    field = one_of(rng, ["node", "initializer", "input", "name"])
    model.graph.ClearField(field)


def nested(model: onnx.ModelProto, rng: Rng) -> None:
    """If in If in If; protobuf itself stops at about a hundred levels of messages."""
    depth = one_of(rng, (3, 20, 90, 400))
    node = helper.make_node("Identity", [model.graph.node[0].input[0]], ["deep"])
    for _ in range(depth):
        body = helper.make_graph([node], "body", [], [onnx.ValueInfoProto(name=node.output[0])])
        node = helper.make_node(
            "If", ["always"], ["deep"], then_branch=body, else_branch=body if depth < 9 else None
        )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    model.graph.node.append(node)


def memory_bomb(model: onnx.ModelProto, rng: Rng) -> None:
    """A small file that asks for tens of gigabytes while it runs."""
    size = one_of(rng, ([HUGE], [1 << 30], [1, 1 << 15, 1 << 15]))
    _constant(model, "bomb_shape", np.array(size, np.int64))
    how = int(rng.integers(3))
    if how == 0:
        nodes = [helper.make_node("ConstantOfShape", ["bomb_shape"], ["bomb"])]
    elif how == 1:
        _constant(model, "bomb_one", np.float32([1]))
        nodes = [helper.make_node("Expand", ["bomb_one", "bomb_shape"], ["bomb"])]
    else:
        _constant(model, "bomb_flat", np.array([1] * (len(size) - 1) + [-1], np.int64))
        nodes = [
            helper.make_node("Cast", [model.graph.input[0].name], ["bomb_real"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["bomb_real", "bomb_flat"], ["bomb_row"]),
            helper.make_node("Tile", ["bomb_row", "bomb_shape"], ["bomb"]),
        ]
    model.graph.node.extend(nodes)
    shape = [None] * len(size)
    model.graph.output.append(helper.make_tensor_value_info("bomb", TensorProto.FLOAT, shape))


def time_bomb(model: onnx.ModelProto, rng: Rng) -> None:
    """A loop of 2^62 rounds."""
    _constant(model, "rounds", np.array(1 << 62, np.int64))
    _constant(model, "always", np.array(True))
    _constant(model, "start", np.float32([0]))
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "round",
        [
            info("i", TensorProto.INT64, []),
            info("on", TensorProto.BOOL, []),
            info("x", TensorProto.FLOAT, [1]),
        ],
        [info("still", TensorProto.BOOL, []), info("y", TensorProto.FLOAT, [1])],
    )
    model.graph.node.append(helper.make_node("Loop", ["rounds", "always", "start"], ["bomb"], body=body))
    model.graph.output.append(info("bomb", TensorProto.FLOAT, [1]))


def outside(model: onnx.ModelProto, rng: Rng) -> None:
    """A constant in another file: missing, elsewhere, or at an impossible place of this one."""
    tensor = one_of(rng, model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    where = one_of(
        rng, ["missing.bin", "../../../etc/passwd", "/etc/passwd", "", ".", "/dev/zero", "model.onnx"]
    )
    tensor.external_data.add(key="location", value=where)
    if rng.integers(2):
        tensor.external_data.add(key="offset", value=str(one_of(rng, SIZES)))
        tensor.external_data.add(key="length", value=str(one_of(rng, SIZES)))


def function(model: onnx.ModelProto, rng: Rng) -> None:
    """A function of the model's own that calls itself."""
    node = one_of(rng, model.graph.node)
    node.domain, node.op_type = "own", "Again"
    again = helper.make_node("Again", ["a"], ["b"], domain="own")
    opsets = [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], [again], opsets))
    model.opset_import.append(opsets[0])


def _constant(model: onnx.ModelProto, name: str, value: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


BYTES: tuple[Mutation, ...] = (flip_bits, flip_bits, truncate, overwrite, repeat, cut_out, noise)

MODELS: tuple[Mutation, ...] = (
    *BYTES,
    *(
        edited(edit)
        for edit in (
            initializer_size, initializer_type, initializer_bytes, odd_numbers, odd_numbers, constant_values,
            input_shape, input_shape, input_type, attribute, attribute, attribute, cycle, dangling, dangling,
            same_names, fewer_or_more_nodes, fewer_or_more_inputs, other_operator, versions, outputs, empty_parts,
            nested, memory_bomb, time_bomb, outside, function,
        )
    ),
)  # fmt: skip


# ---- data


def changed_array(data: bytes, rng: Rng) -> bytes:
    """One array of another shape, type or content."""
    arrays = dict(np.load(io.BytesIO(data)))
    name = one_of(rng, list(arrays))
    array = arrays[name]
    changes: list[Callable[[], Any]] = [
        lambda: array.astype(one_of(rng, [np.float64, np.float16, np.complex64, np.uint8, np.bool_, "U3", "S2"])),
        lambda: array[:0], lambda: array[0], lambda: array.reshape(-1), lambda: array[..., np.newaxis],
        lambda: np.where(np.arange(array.size).reshape(array.shape) == array.size // 2, one_of(rng, NUMBERS), array),
        lambda: array[::-1][: len(array) // 2], lambda: np.array(None, dtype=object), lambda: array.T,
        lambda: np.zeros(array.shape, [("a", "f4"), ("b", "i8")]), lambda: -array.astype(np.int64) * (1 << 40),
    ]  # fmt: skip
    arrays[name] = one_of(rng, changes)()
    return _zipped(arrays)


def other_names(data: bytes, rng: Rng) -> bytes:
    arrays = dict(np.load(io.BytesIO(data)))
    name = one_of(rng, list(arrays))
    arrays[one_of(rng, ["x", "file", "../up", "labels", "é"])] = arrays.pop(name)
    return _zipped(arrays)


def _zipped(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asanyarray(array), allow_pickle=True)
            archive.writestr(f"{name}.npy", part.getvalue())
    return buffer.getvalue()


def false_header(data: bytes, rng: Rng) -> bytes:
    """An array that says it is far larger than the file, or has a header that is not one."""
    shape = one_of(rng, [(HUGE,), (1 << 20, 1 << 20), (-1,), (0, HUGE), (1,) * 40])
    kind = one_of(rng, ["<f4", "<i8", "|V10", "nonsense"])
    head = one_of(
        rng, [f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", "[" * 5000, "{}"]
    )
    text = head.encode().ljust(117) + b"\n"
    part = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + bytes(64)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inputs.npy", part)
    return buffer.getvalue()


def zip_bomb(data: bytes, rng: Rng) -> bytes:
    """4 GiB of zeros in a few megabytes, honestly declared."""
    shape = (1 << 30,)
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("inputs.npy", "w") as part,
    ):
        np.lib.format.write_array_header_2_0(part, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for _ in range(1 << 8):
            part.write(bytes(1 << 24))
    return buffer.getvalue()


DATA: tuple[Mutation, ...] = (*BYTES, *[changed_array] * 6, other_names, false_header, false_header)


# ---- configurations


def other_value(data: bytes, rng: Rng) -> bytes:
    """One value of another kind or size."""
    lines = data.decode().splitlines()
    keyed = [i for i, line in enumerate(lines) if "=" in line and not line.lstrip().startswith("#")]
    at = one_of(rng, keyed)
    key = lines[at].split("=")[0]
    values = [
        "1e400", "nan", "-1", "0", '""', '"nonsense"', "[]", "{}", "true", str(1 << 70), "[[1]]", "1979-05-27", "inf",
        '"' + "a" * 10_000 + '"', "[" * 500 + "]" * 500,
    ]  # fmt: skip
    lines[at] = f"{key}= {one_of(rng, values)}"
    return "\n".join(lines).encode()


def other_key(data: bytes, rng: Rng) -> bytes:
    lines = data.decode().splitlines()
    keyed = [i for i, line in enumerate(lines) if "=" in line]
    at = one_of(rng, keyed)
    how = int(rng.integers(3))
    if how == 0:
        lines[at] = "un" + lines[at]
    elif how == 1:
        lines.append(lines[at])
    else:
        del lines[at]
    return "\n".join(lines).encode()


CONFIGURATIONS: tuple[Mutation, ...] = (*BYTES, *[other_value] * 6, other_key, other_key)

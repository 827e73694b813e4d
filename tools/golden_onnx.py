"""Writes the ONNX seed files of fuzz/seeds/onnx, and ONNX Runtime's outputs for them to crates/repvgg/tests/data/onnx.

    python tools/golden_onnx.py

Each seed is a small network in the style of an exporter, or a file that must be refused. The input follows from a formula, sin(0.37 · i),
which the Rust tests repeat, so only results are stored: `<seed>.f32` holds the first output, little-endian.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as node

ROOT = Path(__file__).parent.parent
SEEDS = ROOT / "fuzz/seeds/onnx"
GOLDENS = ROOT / "crates/repvgg/tests/data/onnx"
REFUSED = {"absurd_extents", "cycle", "external_outside", "truncated", "unknown_operator"}

rng = np.random.default_rng(1)


def normal(name, *shape, scale=1.0):
    return numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name)


def positive(name, *shape):
    return numpy_helper.from_array((rng.random(shape) + 0.5).astype(np.float32), name)


def integers(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def number(name, value):
    return numpy_helper.from_array(np.float32(value), name)


def norm(name, channels):
    """The parameters of a batch norm, and their names."""
    tensors = [
        positive(f"{name}.weight", channels),
        normal(f"{name}.bias", channels),
        normal(f"{name}.running_mean", channels),
        positive(f"{name}.running_var", channels),
    ]
    return tensors, [tensor.name for tensor in tensors]


def write(name, nodes, constants, shape, opset=17, ir=8, more_outputs=()):
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, shape)]
    if ir < 4:
        inputs += [value(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in constants]
    outputs = [value(output, TensorProto.FLOAT, None) for output in ("y", *more_outputs)]
    graph = helper.make_graph(nodes, "seed", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    (SEEDS / f"{name}.onnx").write_bytes(model.SerializeToString())


def view_chain():
    """Old PyTorch's export of `x.view(x.size(0), -1)`, with constants listed among the inputs."""
    parameters, names = norm("b", 4)
    nodes = [
        node("Conv", ["x", "c.weight", "c.bias"], ["a"], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2], group=1, dilations=[1, 1]),
        node("BatchNormalization", ["a", *names], ["d"], epsilon=1e-5, momentum=0.9),
        node("Relu", ["d"], ["e"]),
        node("MaxPool", ["e"], ["f"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        node("AveragePool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["g"], ["s"]),
        node("Constant", [], ["k"], value=numpy_helper.from_array(np.array(0, np.int64))),
        node("Gather", ["s", "k"], ["n"], axis=0),
        node("Unsqueeze", ["n"], ["n1"], axes=[0]),
        node("Constant", [], ["m1"], value=integers("", -1)),
        node("Concat", ["n1", "m1"], ["t"], axis=0),
        node("Reshape", ["g", "t"], ["r"]),
        node("Gemm", ["r", "fc.weight", "fc.bias"], ["y"], alpha=1.0, beta=1.0, transB=1),
    ]
    constants = [normal("c.weight", 4, 3, 3, 3), normal("c.bias", 4), *parameters, normal("fc.weight", 5, 16), normal("fc.bias", 5)]
    write("view_chain_opset9", nodes, constants, ["n", 3, 16, 16], opset=9, ir=3)


def channels_last():
    """A Keras network: an input with channels last, automatic padding, rows in the order of [H, W, C]."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Pad", ["t", "p"], ["q"]),
        node("Conv", ["q", "w1"], ["a"], auto_pad="VALID", strides=[2, 2]),
        node("Add", ["a", "b1"], ["ab"]),
        node("Relu", ["ab"], ["r"]),
        node("Conv", ["r", "w2"], ["d"], auto_pad="SAME_UPPER", strides=[2, 2], group=4),
        node("Clip", ["d", "low", "high"], ["e"]),
        node("MaxPool", ["e"], ["m"], auto_pad="SAME_LOWER", kernel_shape=[2, 2], strides=[1, 1]),
        node("Transpose", ["m"], ["u"], perm=[0, 2, 3, 1]),
        node("Reshape", ["u", "shape"], ["f"]),
        node("MatMul", ["f", "dw"], ["g"]),
        node("Add", ["g", "db"], ["z"]),
        node("Softmax", ["z"], ["y"], axis=-1),
    ]
    constants = [integers("p", 0, 0, 0, 0, 0, 0, 1, 1), normal("w1", 4, 3, 3, 3), normal("b1", 1, 4, 1, 1), normal("w2", 4, 1, 3, 3)]
    constants += [number("low", 0), number("high", 6), integers("shape", -1, 64), normal("dw", 64, 3, scale=0.05), normal("db", 3)]
    write("channels_last_same_pads", nodes, constants, ["n", 16, 16, 3])


def early_attributes():
    nodes = [
        node("Mul", ["x", "s"], ["xs"]),
        node("Sub", ["xs", "mean"], ["xm"]),
        node("Conv", ["xm", "c.weight"], ["a"], pads=[0, 0, 1, 1], kernel_shape=[2, 2]),
        node("Clip", ["a"], ["b"], min=0.0, max=6.0),
        node("LeakyRelu", ["b"], ["d"], alpha=0.1),
        node("Pad", ["d"], ["p"], pads=[0, 0, 1, 0, 0, 0, 0, 2], mode="constant", value=0.0),
        node("AveragePool", ["p"], ["e"], kernel_shape=[3, 3], strides=[2, 2], count_include_pad=1),
        node("Dropout", ["e"], ["f", "mask"], ratio=0.5),
        node("Concat", ["f", "f"], ["g"], axis=1),
        node("GlobalAveragePool", ["g"], ["h"]),
        node("Squeeze", ["h"], ["i"], axes=[2, 3]),
        node("MatMul", ["i", "w"], ["j"]),
        node("Add", ["b2", "j"], ["k"]),
        node("Unsqueeze", ["k"], ["l"], axes=[2, 3]),
        node("Sigmoid", ["l"], ["o"]),
        node("Flatten", ["o"], ["y"]),
    ]
    constants = [number("s", 1 / 255), normal("mean", 3, 1, 1), normal("c.weight", 2, 3, 2, 2), normal("w", 4, 3), normal("b2", 3)]
    write("opset7_attributes", nodes, constants, [2, 3, 9, 8], opset=7, ir=3)


def squeeze_excite():
    nodes = [
        node("Conv", ["x", "s.weight"], ["a"], pads=[2] * 4, dilations=[2, 2]),
        node("HardSwish", ["a"], ["b"]),
        node("ReduceMean", ["b", "axes"], ["p"], keepdims=1),
        node("Conv", ["p", "d.weight", "d.bias"], ["q"]),
        node("Relu", ["q"], ["r"]),
        node("Conv", ["r", "u.weight"], ["t"]),
        node("HardSigmoid", ["t"], ["g"], alpha=1 / 6, beta=0.5),
        node("Mul", ["g", "b"], ["m"]),
        node("Sum", ["m", "a", "b"], ["sum"]),
        node("MaxPool", ["sum"], ["mp"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("AveragePool", ["mp"], ["ap"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1, count_include_pad=0),
        node("ReduceMean", ["ap", "axes"], ["z"], keepdims=0),
        node("Gemm", ["z", "fc.weight"], ["l"], transB=1),
        node("LogSoftmax", ["l"], ["y"], axis=1),
    ]
    constants = [normal("s.weight", 4, 1, 3, 3), integers("axes", 2, 3), normal("d.weight", 2, 4, 1, 1), normal("d.bias", 2)]
    constants += [normal("u.weight", 4, 2, 1, 1), normal("fc.weight", 3, 4)]
    write("squeeze_excite_opset18", nodes, constants, ["n", 1, 14, 13], opset=18)


def storage_types():
    """Every floating-point type, raw and listed; images of any size; supported and unsupported outputs."""
    nodes = [
        node("Cast", ["c.weight"], ["w"], to=TensorProto.FLOAT),
        node("Cast", ["bias16"], ["b"], to=TensorProto.FLOAT),
        node("Cast", ["fcw"], ["fw"], to=TensorProto.FLOAT),
        node("Conv", ["x", "w", "b"], ["a"], pads=[1] * 4),
        node("PRelu", ["a", "slope"], ["p"]),
        node("GlobalAveragePool", ["p"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "fw", "fcb"], ["y"], transB=1),
        node("Erf", ["a"], ["z"]),
    ]
    constants = [
        numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype(np.float16), "c.weight"),
        helper.make_tensor("bias16", TensorProto.BFLOAT16, [4], [0.5, 1, -2, 0.25]),
        helper.make_tensor("fcw", TensorProto.DOUBLE, [3, 4], list(rng.standard_normal(12))),
        helper.make_tensor("fcb", TensorProto.FLOAT, [3], [0.1, 0.2, 0.3]),
        normal("slope", 1, 1, 1),
    ]
    write("storage_types", nodes, constants, ["n", 3, "h", "w"], more_outputs=("p", "z"))


def affine_constants():
    nodes = [
        node("Constant", [], ["two"], value_float=2.0),
        node("Sub", ["one", "x"], ["a"]),
        node("Div", ["a", "two"], ["b"]),
        node("Add", ["b", "shift"], ["c"]),
        node("Mul", ["c", "c"], ["d"]),
        node("Sub", ["d", "b"], ["e"]),
        node("Mul", ["e", "scale"], ["f"]),
        node("Add", ["f", "shift"], ["g"]),
        node("GlobalMaxPool", ["g"], ["y"]),
    ]
    constants = [number("one", [1]), normal("shift", 1, 3, 1, 1), normal("scale", 3, 1, 1)]
    write("affine_constants", nodes, constants, [1, 3, 5, 4])


def rows():
    parameters, names = norm("b", 5)
    nodes = [
        node("Gemm", ["x", "a.weight", "a.bias"], ["a"], alpha=0.5, beta=2.0),
        node("BatchNormalization", ["a", *names], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("MatMul", ["c", "w"], ["y"]),
    ]
    write("rows", nodes, [normal("a.weight", 6, 5), normal("a.bias", 5), *parameters, normal("w", 5, 2)], [None, 6])
    complete = (SEEDS / "rows.onnx").read_bytes()
    (SEEDS / "truncated.onnx").write_bytes(complete[: len(complete) // 2])


def pad_chain():
    """PyTorch's export of `F.pad` from before it folded constants."""
    nodes = [
        node("Constant", [], ["pads"], value=integers("", 1, 1, 0, 0)),
        node("ConstantOfShape", ["four"], ["zeros"], value=integers("", 0)),
        node("Concat", ["pads", "zeros"], ["cat"], axis=0),
        node("Reshape", ["cat", "pairs"], ["rows"]),
        node("Slice", ["rows", "start", "end", "axis", "step"], ["reversed"]),
        node("Transpose", ["reversed"], ["tr"], perm=[1, 0]),
        node("Reshape", ["tr", "flat"], ["list"]),
        node("Cast", ["list"], ["cast"], to=TensorProto.INT64),
        node("Pad", ["x", "cast", "zero"], ["p"], mode="constant"),
        node("Conv", ["p", "c.weight"], ["a"], kernel_shape=[3, 3]),
        node("Identity", ["a"], ["b"]),
        node("Flatten", ["b"], ["y"], axis=1),
    ]
    constants = [integers("four", 4), integers("pairs", -1, 2), integers("start", -1), integers("end", -(2**63) + 1), integers("axis", 0)]
    constants += [integers("step", -1), integers("flat", -1), number("zero", 0), normal("c.weight", 2, 3, 3, 3)]
    write("pad_chain_opset11", nodes, constants, [1, 3, 6, 6], opset=11, ir=6)


def hostile():
    write("cycle", [node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"])], [], [1, 3, 4, 4])
    absurd = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 40], raw_data=b"abc")
    write("absurd_extents", [node("Conv", ["x", "w"], ["y"])], [absurd], [1, 3, 4, 4])
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "24")):
        outside.external_data.add(key=key, value=value)
    write("external_outside", [node("Conv", ["x", "w"], ["y"])], [outside], [1, 3, 4, 4])
    write("unknown_operator", [node("Erf", ["x"], ["y"], name="/features/0/Erf")], [], [1, 3, 4, 4])


def golden(path):
    session = onnxruntime.InferenceSession(path)
    [source] = session.get_inputs()
    shape = [extent if isinstance(extent, int) else 2 if axis == 0 else 7 for axis, extent in enumerate(source.shape)]
    is_channels_last = path.stem.startswith("channels_last")
    planar = [shape[axis] for axis in (0, 3, 1, 2)] if is_channels_last else shape
    images = np.sin(np.arange(np.prod(planar)) * 0.37).astype(np.float32).reshape(planar)
    if is_channels_last:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    session.run(None, {"x": images})[0].astype("<f4").tofile(GOLDENS / f"{path.stem}.f32")


def main():
    SEEDS.mkdir(parents=True, exist_ok=True)
    GOLDENS.mkdir(parents=True, exist_ok=True)
    for seed in (view_chain, channels_last, early_attributes, squeeze_excite, storage_types, affine_constants, rows, pad_chain, hostile):
        seed()
    for path in sorted(SEEDS.glob("*.onnx")):
        if path.stem not in REFUSED:
            golden(path)


if __name__ == "__main__":
    main()

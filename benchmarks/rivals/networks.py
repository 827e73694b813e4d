"""Plain RepVGG networks: fresh weights, the files that engines read, and logits in double precision.

A plain network is a chain of 3×3 convolution, bias and ReLU, then the mean over the map and one linear layer. Its weights are a
`.safetensors` file under the official names; everything else here is derived from that file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

A, B = (2, 4, 14, 1), (4, 6, 16, 1)
NETWORKS: dict[str, tuple[tuple[int, ...], tuple[float, ...], int]] = {
    # blocks in stages 1 to 4, multipliers of 64, 128, 256 and 512 channels, groups in every second layer
    "A0": (A, (0.75, 0.75, 0.75, 2.5), 1),
    "A1": (A, (1.0, 1.0, 1.0, 2.5), 1),
    "A2": (A, (1.5, 1.5, 1.5, 2.75), 1),
    "B0": (B, (1.0, 1.0, 1.0, 2.5), 1),
    "B1": (B, (2.0, 2.0, 2.0, 4.0), 1),
    "B1g2": (B, (2.0, 2.0, 2.0, 4.0), 2),
    "B1g4": (B, (2.0, 2.0, 2.0, 4.0), 4),
    "B2g4": (B, (2.5, 2.5, 2.5, 5.0), 4),
}
CLASSES = 1000

Size = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """`ReLU(conv3×3(x) + bias)` with a border of one zero."""

    weight: np.ndarray  # [K, C/G, 3, 3]
    bias: np.ndarray
    stride: int
    groups: int

    def output_size(self, size: Size) -> Size:
        height, width = size
        return (height - 1) // self.stride + 1, (width - 1) // self.stride + 1


@dataclass(frozen=True)
class Network:
    """A chain of convolutions, then the mean over the map and a linear layer."""

    convolutions: list[Convolution]
    weight: np.ndarray  # [classes, channels]
    bias: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Network:
        """Reads a plain network with the official names. Strides are the paper's unless the file's metadata gives others."""
        with safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = json.loads((file.metadata() or {}).get("repvgg", "{}"))
        strides = metadata.get("architecture", {}).get("strides", [2] * 5)
        head = tensors.pop("linear.weight"), tensors.pop("linear.bias")
        convolutions, channels = [], None
        for stage, index, prefix in sorted(blocks(path, tensors)):
            weight, bias = tensors[f"{prefix}.weight"], tensors[f"{prefix}.bias"]
            groups = 1 if channels is None else channels // weight.shape[1]
            convolutions.append(Convolution(weight, bias, strides[stage] if index == 0 else 1, groups))
            channels = weight.shape[0]
        return cls(convolutions, *head)

    @property
    def channels(self) -> int:
        return self.convolutions[0].weight.shape[1]

    def macs(self, size: Size) -> int:
        """Multiply-adds of the direct convolutions and the linear layer, for one image."""
        total = self.weight.size
        for convolution in self.convolutions:
            size = convolution.output_size(size)
            total += convolution.weight.size * size[0] * size[1]
        return total

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The reference: every operation in double precision."""
        x = images.astype(np.float64)
        for convolution in self.convolutions:
            x = np.maximum(convolve(x, convolution), 0.0)
        return x.mean((2, 3)) @ self.weight.astype(np.float64).T + self.bias

    def write_onnx(self, path: Path, batch: int, size: Size) -> None:
        from onnx import TensorProto, checker, helper, numpy_helper, save

        nodes, weights, x = [], [], "input"

        def constant(name: str, value: np.ndarray) -> str:
            weights.append(numpy_helper.from_array(value, name))
            return name

        for index, convolution in enumerate(self.convolutions):
            parameters = [constant(f"w{index}", convolution.weight), constant(f"b{index}", convolution.bias)]
            stride = [convolution.stride] * 2
            attributes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": stride, "group": convolution.groups}
            nodes.append(helper.make_node("Conv", [x, *parameters], [f"conv{index}"], **attributes))
            nodes.append(helper.make_node("Relu", [f"conv{index}"], [x := f"relu{index}"]))
        nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"]))
        nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
        head = [constant("linear.weight", self.weight), constant("linear.bias", self.bias)]
        nodes.append(helper.make_node("Gemm", ["flat", *head], ["logits"], transB=1))
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, self.channels, *size])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(self.bias)])
        graph = helper.make_graph(nodes, "repvgg", [image], [logits], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        save(model, path)

    def write_ncnn(self, folder: Path) -> None:
        """Writes ncnn's `model.param`, a text file of layers, and `model.bin`, where a zero word before each kernel means f32."""
        folder.mkdir(exist_ok=True)
        layers, x = ["Input input 0 1 input"], "input"
        with (folder / "model.bin").open("wb") as file:

            def add(kind: str, name: str, fields: dict[int, int], *parameters: np.ndarray) -> None:
                nonlocal x
                layers.append(" ".join([kind, name, "1", "1", x, name, *(f"{key}={value}" for key, value in fields.items())]))
                x = name
                for value in parameters:
                    file.write(b"\0" * 4 if value.ndim > 1 else b"")
                    file.write(value.astype("<f4").tobytes())

            for index, convolution in enumerate(self.convolutions):
                # output channels, kernel, stride, padding, has a bias, size of the kernel, ReLU follows
                fields = {0: len(convolution.bias), 1: 3, 3: convolution.stride, 4: 1, 5: 1, 6: convolution.weight.size, 9: 1}
                if convolution.groups > 1:
                    kind, fields[7] = "ConvolutionDepthWise", convolution.groups
                else:
                    kind = "Convolution"
                add(kind, f"conv{index}", fields, convolution.weight, convolution.bias)
            add("Pooling", "mean", {0: 1, 4: 1})
            add("InnerProduct", "logits", {0: len(self.bias), 1: 1, 2: self.weight.size}, self.weight, self.bias)
        # The magic number, the number of layers, the number of tensors between them.
        (folder / "model.param").write_text("\n".join(["7767517", f"{len(layers)} {len(layers)}", *layers, ""]))


def blocks(path: Path, names: dict[str, np.ndarray]) -> Iterator[tuple[int, int, str]]:
    """Stage, position in the stage and prefix of every convolution. Refuses anything but a plain chain."""
    for name in names:
        match = re.fullmatch(r"(stage(\d)(?:\.(\d+))?\.rbr_reparam)\.(weight|bias)", name)
        if match is None:
            raise ValueError(f"{path}: expected a plain chain of 3×3 convolutions, found {name}")
        prefix, stage, index, kind = match.groups()
        if kind == "weight":
            yield int(stage), int(index or 0), prefix


def convolve(x: np.ndarray, convolution: Convolution) -> np.ndarray:
    """Convolves in double precision, with one product per tap and group."""
    batch, channels, *size = x.shape
    groups, stride = convolution.groups, convolution.stride
    filters = len(convolution.bias)
    height, width = convolution.output_size((size[0], size[1]))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    weight = convolution.weight.astype(np.float64).reshape(groups, filters // groups, channels // groups, 3, 3)
    y = np.zeros((batch, groups, filters // groups, height * width))
    for row in range(3):
        for column in range(3):
            rows = slice(row, row + stride * (height - 1) + 1, stride)
            columns = slice(column, column + stride * (width - 1) + 1, stride)
            tap = padded[:, :, rows, columns].reshape(batch, groups, channels // groups, height * width)
            y += weight[:, :, :, row, column] @ tap
    return y.reshape(batch, filters, height, width) + convolution.bias[:, None, None]


def write_fresh(path: Path, name: str) -> None:
    """Writes a network with seeded weights that preserve the scale of activations (He et al., 1502.01852), and small biases."""
    depths, width, groups = NETWORKS[name]
    stages = [int(base * factor) for base, factor in zip((64, 128, 256, 512), width, strict=True)]
    random = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    def normal(scale: float, *shape: int) -> np.ndarray:
        return scale * random.standard_normal(shape, dtype=np.float32)

    inputs, layer = 3, 0
    for stage, (depth, filters) in enumerate(zip((1, *depths), (min(64, stages[0]), *stages), strict=True)):
        for index in range(depth):
            prefix = "stage0.rbr_reparam" if stage == 0 else f"stage{stage}.{index}.rbr_reparam"
            fan_in = inputs // (groups if layer and layer % 2 == 0 else 1)
            tensors[f"{prefix}.weight"] = normal((2 / (9 * fan_in)) ** 0.5, filters, fan_in, 3, 3)
            tensors[f"{prefix}.bias"] = normal(0.1, filters)
            inputs, layer = filters, layer + 1
    tensors["linear.weight"] = normal(inputs**-0.5, CLASSES, inputs)
    tensors["linear.bias"] = normal(0.1, CLASSES)
    save_file(tensors, path)

"""Files that PyTorch programs write of a network, for tools/parity.py: dialects of names, containers, ONNX."""

import argparse
import contextlib
import functools
import io
import pathlib
import pickle
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import torch
from onnx import helper
from safetensors.torch import save_file

State = dict[str, torch.Tensor]
Writer = Callable[[pathlib.Path], object]

LEGACY = {"_use_new_zipfile_serialization": False}
OFFICIAL = ("rbr_dense", "rbr_1x1", "rbr_identity", "rbr_reparam", "bn", "se.down", "se.up")
DIALECTS = {
    "timm": ("conv_kxk", "conv_1x1", "identity", "reparam_conv", "bn", "attn.fc1", "attn.fc2"),
    "mmpretrain": (
        "branch_3x3",
        "branch_1x1",
        "branch_norm",
        "branch_reparam",
        "norm",
        "se_layer.conv1.conv",
        "se_layer.conv2.conv",
    ),
}
"""The parts of a block under other code bases' names, in the order of OFFICIAL."""


def block_name(stage: int, rest: str, dialect: str) -> tuple[str, str]:
    """Splits a name into the block and the rest, in the names of a dialect."""
    prefix = "" if dialect == "timm" else "backbone."
    if stage == 0:
        return f"{prefix}stem", rest
    index, rest = rest.split(".", 1)
    return (f"stages.{stage - 1}.{index}" if dialect == "timm" else f"{prefix}stage_{stage}.{index}"), rest


def translated_name(official: str, dialect: str) -> str:
    stage, rest = official.split(".", 1)
    if stage == "linear":
        return f"head.fc.{rest}"
    block, rest = block_name(int(stage.removeprefix("stage")), rest, dialect)
    for ours, theirs in zip(OFFICIAL, DIALECTS[dialect]):
        rest = f".{rest}".replace(f".{ours}.", f".{theirs}.")[1:]
    return f"{block}.{rest}"


def translated(state: State, dialect: str) -> State:
    """The tensors under another code base's names."""
    return {translated_name(official, dialect): tensor for official, tensor in state.items()}


def training_run(state: State) -> dict[str, object]:
    """A checkpoint of distributed training."""
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return {"model": {f"module.{name}": tensor for name, tensor in state.items()}, "optimizer": optimizer, "epoch": 119}


def timm_run(state: State) -> dict[str, object]:
    """A checkpoint with weights and averaged weights. Readers must take the weights themselves."""
    averaged = {name: tensor * 0 + 1 for name, tensor in state.items()}
    return {"state_dict_ema": averaged, "state_dict": state, "args": argparse.Namespace(lr=0.1, model="repvgg"), "epoch": 3}


def in_type(state: State, dtype: torch.dtype) -> State:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def forms(form: str, state: State, dialects: list[str]) -> Iterator[tuple[str, str, Writer]]:
    yield f"{form} safetensors official", "model.safetensors", functools.partial(save_file, state)
    for dialect in dialects:
        yield f"{form} safetensors {dialect}", "model.safetensors", functools.partial(save_file, translated(state, dialect))
    yield f"{form} zip", "model.pth", functools.partial(torch.save, state)
    yield f"{form} legacy", "model.pth", functools.partial(torch.save, state, **LEGACY)


def containers(state: State) -> Iterator[tuple[str, str, Writer]]:
    """Further files of a training form: a description, the file's name, its writer."""
    yield "{model: module.…}", "model.pth", functools.partial(torch.save, training_run(state))
    yield "{state_dict, state_dict_ema, args}", "model.pth", functools.partial(torch.save, timm_run(state))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for kind, options in (("zip", {}), ("legacy", LEGACY)):
            writer = functools.partial(torch.save, state, pickle_protocol=protocol, **options)
            yield f"{kind} pickle protocol {protocol}", "model.pth", writer
    yield "zip float64", "model.pth", functools.partial(torch.save, in_type(state, torch.float64))
    yield "safetensors float64", "model.safetensors", functools.partial(save_file, in_type(state, torch.float64))


EXPORTERS = {
    "TorchScript": {"dynamo": False},
    "TorchScript with batch norms": {"dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE},
    "dynamo": {"dynamo": True, "external_data": False, "verbose": False},
}


def write_onnx(model: torch.nn.Module, images: torch.Tensor, path: pathlib.Path, exporter: str) -> None:
    options = dict(EXPORTERS[exporter])
    if not options["dynamo"]:
        axes = {"input": {0: "n", 2: "h", 3: "w"}, "logits": {0: "n"}}
        options |= {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": axes}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(model, (images,), str(path), **options)


def write_pixels(path: pathlib.Path, size: int) -> None:
    """Writes a network whose logits are the values of its input."""
    values = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "identity")
    nodes = [helper.make_node("Conv", ["image", "identity"], ["same"]), helper.make_node("Flatten", ["same"], ["logits"])]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, size, size])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 3 * size * size])
    graph = helper.make_graph(nodes, "pixels", [image], [logits], [values])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)

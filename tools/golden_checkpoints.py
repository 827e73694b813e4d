"""Writes small checkpoints with torch.save: goldens of crates/repvgg/tests/data/checkpoints, seeds of fuzz/seeds/pytorch.

    python tools/golden_checkpoints.py

PyTorch 2.15.0, safetensors 0.8.0. `<name>.safetensors` holds the state dict of `<name>.pth` and
`<name>-*.pth`, with floats as f32.
"""

import argparse
import collections
import datetime
import pathlib
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).parent.parent
GOLDENS = ROOT / "crates/repvgg/tests/data/checkpoints"
SEEDS = ROOT / "fuzz/seeds/pytorch"
LEGACY = dict(_use_new_zipfile_serialization=False)


def ramp(*shape: int) -> torch.Tensor:
    return torch.arange(1, 1 + int(np.prod(shape)), dtype=torch.float32).reshape(shape) / 8


def views() -> dict:
    """Every float type and every memory layout."""
    base = ramp(3, 4)
    return {
        "shared": base,
        "transposed": base.t(),
        "sliced": base[1:, 1:4:2],
        "row": base[2],
        "expanded": ramp(1, 2).expand(3, 2),
        "channels_last": ramp(2, 3, 2, 2).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "special": torch.tensor([float("inf"), float("-inf"), float("nan"), -0.0, 1e-45]),
        "half": torch.tensor([[1.5, -65504.0], [6e-8, float("inf")]]).half().t(),
        "bfloat16": torch.tensor([1.5, 3e38, 1e-40]).bfloat16(),
        "double": torch.tensor([1e300, 1 / 3, 1e-46], dtype=torch.double),
        "parameter": torch.nn.Parameter(ramp(2)),
        "counter": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "unsigned": torch.zeros(2, dtype=torch.uint16),
    }


def training(state_dict: dict) -> dict:
    """A checkpoint with the other contents that training programs store."""
    weight = torch.nn.Parameter(ramp(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    averaged = {name: tensor * 2 for name, tensor in state_dict.items()}
    return {
        "epoch": 9,
        "arch": "repvgg_a0",
        "state_dict_ema": averaged,
        "state_dict": state_dict,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict(),
        "args": argparse.Namespace(lr=0.1, betas=None, output=str(pathlib.PurePosixPath("runs")), sizes=[128, 160]),
        "history": collections.defaultdict(list, {"loss": [1.5, float("nan")], "seen": [2**31, 2**70, -1, -(2**63)]}),
        "metric": np.float64(0.5),
        "confusion": np.arange(4).reshape(2, 2),
        "when": datetime.datetime(2021, 9, 9),
        "flags": {True, None, b"bytes", 1 + 2j},
    }


def plain() -> collections.OrderedDict:
    layer = torch.nn.BatchNorm2d(2)
    layer.running_var.data = ramp(2)
    return layer.state_dict()


def goldens() -> None:
    torch.save(views(), GOLDENS / "views.pth")
    torch.save(views(), GOLDENS / "views-legacy.pth", **LEGACY)
    for protocol in (1, 2, 5):
        torch.save(training(plain()), GOLDENS / f"training-{protocol}.pth", pickle_protocol=protocol, **LEGACY)
    for name, state_dict in (("views", views()), ("training", plain())):
        as_f32 = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state_dict.items()}
        save_file({key: tensor.contiguous().clone() for key, tensor in as_f32.items()}, GOLDENS / f"{name}.safetensors")


def seeds() -> None:
    odd = {
        "sparse": ramp(2, 2).to_sparse(),
        "meta": torch.zeros(2, device="meta"),
        "complex": ramp(2).to(torch.complex64).conj(),
        "nested": torch.nested.nested_tensor([ramp(1), ramp(2)]),
    }
    attributed = torch.nn.Parameter(ramp(2))
    attributed.owner = "layer"
    cyclic = [1]
    cyclic.append(cyclic)
    files = {
        "odd": {"weight": ramp(2), **odd},
        "odd-aside": {"state_dict": {"weight": ramp(2)}, "odd": odd},
        "attributed": {"weight": attributed},
        "cyclic": {"weight": ramp(2), "cyclic": cyclic},
        "storage": {"state_dict": {"weight": ramp(2)}, "storage": ramp(2).untyped_storage()},
    }
    for name, checkpoint in files.items():
        torch.save(checkpoint, SEEDS / f"{name}-legacy.pth", **LEGACY)
    torch.save(plain(), SEEDS / "plain.pth")
    torch.save(plain(), SEEDS / "plain-0.pth", pickle_protocol=0)
    torch.save({"weight": ramp(2), "float8": torch.zeros(2, dtype=torch.float8_e4m3fn), **odd}, SEEDS / "odd.pth")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), SEEDS / "script.pth")
    with zipfile.ZipFile(SEEDS / "plain.pth") as stored, zipfile.ZipFile(SEEDS / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as deflated:
        for entry in stored.namelist():
            with deflated.open(entry, "w", force_zip64=True) as file:
                file.write(stored.read(entry))


if __name__ == "__main__":
    torch.manual_seed(0)
    for folder in (GOLDENS, SEEDS):
        folder.mkdir(parents=True, exist_ok=True)
    goldens()
    seeds()

"""Writes the logits of torchvision's and timm's networks: goldens of crates/repvgg/tests/baselines.rs.

    python tools/golden_baselines.py [NAME ...] [--checkpoints FOLDER]
    python tools/golden_baselines.py [NAME ...] --counts

Images and weights, including the statistics of batch norms, follow from a formula, which the Rust tests repeat. The file therefore holds
only the name, image size and first logits of each network, one network per line; lines of other networks stay. Everything is computed in
double precision from values rounded to single. With `--checkpoints`, FOLDER also gets NAME.safetensors, NAME.images.npy and
NAME.logits.npy, for

    repvgg run NAME.safetensors --architecture NAME --input NAME.images.npy --output found.npy

With `--counts`, it prints rows of the test's table instead: parameters, and multiply-adds at the published image size.
"""

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, _efficientnet_conf
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

GOLDENS = Path(__file__).parent.parent / "crates/repvgg/tests/data/baselines.jsonl"
BATCH, SIZE, KEPT = 2, [56, 40], 8
PUBLISHED_SIZES = {f"efficientnet-b{scale}": size for scale, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))}


def in_torchvision(name, **options):
    return lambda: torchvision.models.get_model(name, weights=None, **options)


def in_timm(name):
    return lambda: timm.create_model(name, pretrained=False)


NETWORKS = {
    **{f"densenet-{layers}": in_torchvision(f"densenet{layers}") for layers in (121, 161, 169, 201)},
    **{f"efficientnet-b{scale}": in_torchvision(f"efficientnet_b{scale}") for scale in range(8)},
    "googlenet": in_torchvision("googlenet", init_weights=False),
    "regnetx-200mf": in_timm("regnetx_002"),
    "regnetx-400mf": in_torchvision("regnet_x_400mf"),
    "regnetx-600mf": in_timm("regnetx_006"),
    "regnetx-800mf": in_torchvision("regnet_x_800mf"),
    "regnetx-1.6gf": in_torchvision("regnet_x_1_6gf"),
    "regnetx-3.2gf": in_torchvision("regnet_x_3_2gf"),
    "regnetx-4.0gf": in_timm("regnetx_040"),
    "regnetx-6.4gf": in_timm("regnetx_064"),
    "regnetx-8gf": in_torchvision("regnet_x_8gf"),
    "regnetx-12gf": in_timm("regnetx_120"),
    "regnetx-16gf": in_torchvision("regnet_x_16gf"),
    "regnetx-32gf": in_torchvision("regnet_x_32gf"),
    **{f"resnet-{layers}": in_torchvision(f"resnet{layers}") for layers in (18, 34)},
    **{f"resnet-{layers}-v1.5": in_torchvision(f"resnet{layers}") for layers in (50, 101, 152)},
    "resnext-50-32x4d": in_torchvision("resnext50_32x4d"),
    "resnext-101-32x4d": in_timm("resnext101_32x4d"),
    **{f"vgg-{layers}": in_torchvision(f"vgg{layers}") for layers in (11, 13, 16, 19)},
    **{f"vgg-{layers}-bn": in_torchvision(f"vgg{layers}_bn") for layers in (11, 13, 16, 19)},
}


def small_vgg():
    network = VGG(make_layers([8, "M", 8, 8, "M", 16, "M", 16, "M", 24, "M"], batch_norm=True), num_classes=10)
    network.classifier[0] = nn.Linear(24 * 7 * 7, 16)
    network.classifier[3] = nn.Linear(16, 16)
    network.classifier[6] = nn.Linear(16, 10)
    return network


def small_regnet():
    return RegNet(BlockParams.from_init_params(depth=7, w_0=16, w_a=20.0, w_m=2.5, group_width=24), num_classes=10)


def small_efficientnet():
    settings, _ = _efficientnet_conf("efficientnet_b0", width_mult=0.35, depth_mult=1.2)
    return EfficientNet(settings, dropout=0.0, num_classes=10, norm_layer=lambda channels: nn.BatchNorm2d(channels, eps=0.01))


def early_stride():
    """The paper's ResNet, with the stride in the first 1×1."""
    network = ResNet(Bottleneck, [2, 1, 2, 1], num_classes=10)
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return network


# Unpublished networks, by their specifications.
SPECIFICATIONS = {
    'family = "densenet"\ndepths = [1, 3, 1, 2]\ngrowth = 6\nstem = 20\nbottleneck = 3\nclasses = 10': lambda: DenseNet(
        6, (1, 3, 1, 2), 20, bn_size=3, num_classes=10
    ),
    'family = "efficientnet"\nwidth = 0.35\ndepth = 1.2\neps = 0.01\nclasses = 10': small_efficientnet,
    'family = "regnet"\ndepth = 7\nw0 = 16\nwa = 20.0\nwm = 2.5\ngroup_width = 24\nnames = "torchvision"\nclasses = 10': small_regnet,
    'family = "regnet"\ndepth = 22\nw0 = 24\nwa = 24.48\nwm = 2.54\ngroup_width = 16\nnames = "timm"': in_timm("regnetx_004"),
    'family = "resnet"\nblock = "bottleneck-v15"\ndepths = [1, 1, 2, 1]\ngroups = 4\ngroup_width = 24\nclasses = 10': lambda: ResNet(
        Bottleneck, [1, 1, 2, 1], num_classes=10, groups=4, width_per_group=24
    ),
    'family = "resnet"\ndepths = [1, 2, 1, 1]\nclasses = 10': lambda: ResNet(BasicBlock, [1, 2, 1, 1], num_classes=10),
    'family = "resnet"\nblock = "bottleneck"\ndepths = [2, 1, 2, 1]\nclasses = 10': early_stride,
    'family = "vgg"\ndepths = [1, 2, 1, 1, 1]\nchannels = [8, 8, 16, 16, 24]\nbatch_norm = true\nhidden = 16\nclasses = 10': small_vgg,
}


def uniform(name, shape, low, high):
    """Numbers from `low` to `high`, determined by a name: SplitMix64 of its CRC-32 and the index, 24 bits each."""
    z = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 32)
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    fraction = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)) / float(1 << 24)
    return torch.from_numpy((low + (high - low) * fraction).astype(np.float32).reshape(shape))


def randomise(network):
    """Fills in kernels that preserve the scale of a signal, and batch norms and biases that do not."""
    for path, module in network.named_modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            low, high = -0.5, 0.5
            if tensor.dim() > 1:
                high = float(np.sqrt(3 / np.prod(tensor.shape[1:])))
                low = -high
            elif name == "running_var" or (name == "weight" and isinstance(module, nn.BatchNorm2d)):
                low, high = 0.5, 1.5
            if name != "num_batches_tracked":
                tensor.data = uniform(f"{path}.{name}", tuple(tensor.shape), low, high).double()


def golden(network, size):
    network.eval()
    randomise(network)
    images = uniform("images", (BATCH, 3, *size), -1.0, 1.0)
    return images, network(images.double())


def count(network, size):
    """The parameters, and the multiply-adds of convolutions and fully connected layers in evaluation."""
    macs = 0

    def hook(module, _, output):
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    network = network.to("meta").eval()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(hook)
    network(torch.empty(1, 3, size, size, device="meta"))
    return sum(parameter.numel() for parameter in network.parameters()), macs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="the networks (default: all)")
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="a folder for model files")
    parser.add_argument("--counts", action="store_true", help="print counts and write nothing")
    arguments = parser.parse_args()
    if arguments.counts:
        for name in arguments.names or sorted(NETWORKS):
            size = PUBLISHED_SIZES.get(name, 224)
            parameters, macs = count(NETWORKS[name](), size)
            print(f'    ("{name}", {size}, {parameters:_}, {macs:_}),')
        return
    known = [json.loads(line) for line in GOLDENS.read_text().splitlines()] if GOLDENS.exists() else []
    lines = {line["network"]: line for line in known}
    for name, build in {**NETWORKS, **SPECIFICATIONS}.items():
        if arguments.names and name not in arguments.names:
            continue
        size = [224, 224] if "vgg" in name else SIZE
        network = build()
        images, logits = golden(network, size)
        lines[name] = {"network": name, "size": size, "logits": logits[:, :KEPT].flatten().tolist()}
        if arguments.checkpoints:
            arguments.checkpoints.mkdir(parents=True, exist_ok=True)
            tensors = {key: tensor.float().contiguous() for key, tensor in network.state_dict().items() if "num_batches" not in key}
            save_file(tensors, arguments.checkpoints / f"{name}.safetensors")
            np.save(arguments.checkpoints / f"{name}.images.npy", images.numpy())
            np.save(arguments.checkpoints / f"{name}.logits.npy", logits.numpy())
    GOLDENS.write_text("".join(json.dumps(lines[name]) + "\n" for name in sorted(lines)))


if __name__ == "__main__":
    with torch.no_grad():
        main()

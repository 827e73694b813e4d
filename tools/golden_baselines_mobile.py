"""Writes the logits of mobile and searched networks: goldens of crates/repvgg/tests/baselines.rs.

    python tools/golden_baselines_mobile.py [--checkpoints FOLDER]
    python tools/golden_baselines_mobile.py --counts

Everything else is as in golden_baselines.py. NASNet's images have the parities of the published sizes, which determine its padding.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from baselines_torch import NASNetA, ShuffleNetV1
from golden_baselines import KEPT, SIZE, count, golden, in_timm, in_torchvision
from safetensors.torch import save_file
from timm.models.byobnet import ByobNet, ByoModelCfg, _mobileone_bcfg
from timm.models.efficientnet import _gen_mobilenet_v1
from timm.models.nasnet import NASNetALarge
from timm.models.xception import Block, SeparableConv2d, Xception
from torch import nn
from torchvision.models.shufflenetv2 import ShuffleNetV2

GOLDENS = Path(__file__).parent.parent / "crates/repvgg/tests/data/baselines_mobile.jsonl"
PUBLISHED_SIZES = {"nasnet-a-large": 331, "xception": 299}
SHUFFLED_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}


def mobilenet(width, **options):
    return lambda: _gen_mobilenet_v1("mobilenetv1_100", width, **options)


def shufflenet(groups):
    return lambda: ShuffleNetV1(groups, SHUFFLED_CHANNELS[groups])


NETWORKS = {
    "mobilenet-v1": mobilenet(1.0),
    **{f"mobilenet-v1-{width}": mobilenet(width) for width in (0.25, 0.5, 0.75)},
    **{f"mobileone-s{scale}": in_timm(f"mobileone_s{scale}") for scale in range(5)},
    "nasnet-a-large": in_timm("nasnetalarge"),
    "nasnet-a-mobile": lambda: NASNetA(cells=4, num_features=1056, stem_size=32),
    **{f"shufflenet-v1-g{groups}": shufflenet(groups) for groups in SHUFFLED_CHANNELS},
    **{f"shufflenet-v2-{width}": in_torchvision(f"shufflenet_v2_x{width.replace('.', '_')}") for width in ("0.5", "1.0", "1.5", "2.0")},
    "xception": in_timm("legacy_xception"),
}


def small_mobileone():
    blocks = _mobileone_bcfg((1, 2, 1, 1), (0.5, 0.5, 0.25, 0.125), se_blocks=(0, 1, 0, 1), num_conv_branches=2)
    return ByobNet(ByoModelCfg(blocks=blocks, stem_type="one", stem_chs=32), num_classes=10)


def small_xception():
    network = Xception(num_classes=10)
    network.block1 = Block(64, 16, 2, 2, start_with_relu=False)
    network.block2 = Block(16, 24, 2, 2)
    network.block3 = Block(24, 32, 2, 2)
    network.block4 = Block(32, 32, 3, 1)
    network.block5 = Block(32, 40, 2, 2, grow_first=False)
    for number in range(6, 13):
        setattr(network, f"block{number}", nn.Identity())
    network.conv3, network.bn3 = SeparableConv2d(40, 48, 3, 1, 1), nn.BatchNorm2d(48)
    network.conv4, network.bn4 = SeparableConv2d(48, 56, 3, 1, 1), nn.BatchNorm2d(56)
    network.fc = nn.Linear(56, 10)
    return network


# Unpublished networks, by their specifications.
MOBILEONE = "depths = [1, 2, 1, 1]\nwidth = [0.5, 0.5, 0.25, 0.125]\nbranches = 2\nexcited = [0, 1, 0, 1]"
OTHER_NASNET = "cells = 2\nfeatures = 96\nstem = 8\nskips_reduction = false\ncounts_padding = false"
SHUFFLENET = "groups = 4\nchannels = 96\nwidth = 0.5\nstem = 8\ndepths = [2, 1, 3]"
SPECIFICATIONS = {
    'family = "mobilenet-v1"\nwidth = 0.35\nclasses = 10': mobilenet(0.35, num_classes=10),
    f'family = "mobileone"\n{MOBILEONE}\nclasses = 10': small_mobileone,
    'family = "nasnet-a"\nfeatures = 96\nstem = 8\nclasses = 10\nsize = 50': lambda: NASNetALarge(10, stem_size=8, num_features=96),
    f'family = "nasnet-a"\n{OTHER_NASNET}\nclasses = 10\nsize = 47': lambda: NASNetA(cells=2, num_features=96, stem_size=8, num_classes=10),
    f'family = "shufflenet-v1"\n{SHUFFLENET}\nclasses = 10': lambda: ShuffleNetV1(4, 96, 0.5, 8, (2, 1, 3), num_classes=10),
    'family = "shufflenet-v2"\ndepths = [2, 1, 3]\nchannels = [8, 20, 40, 44, 64]\nclasses = 10': lambda: ShuffleNetV2(
        [2, 1, 3], [8, 20, 40, 44, 64], num_classes=10
    ),
    'family = "xception"\nentry = [16, 24, 32]\nmiddle = 1\nexit = [40, 48, 56]\nclasses = 10': small_xception,
}


def image_size(name):
    """Height and width of the images of a golden."""
    _, is_fixed, side = name.partition("size = ")
    return [int(side)] * 2 if is_fixed else {"nasnet-a-large": [75, 43], "nasnet-a-mobile": [63, 32]}.get(name, SIZE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="a folder for model files")
    parser.add_argument("--counts", action="store_true", help="print counts and write nothing")
    arguments = parser.parse_args()
    if arguments.counts:
        for name, build in sorted(NETWORKS.items()):
            size = PUBLISHED_SIZES.get(name, 224)
            parameters, macs = count(build(), size)
            print(f'    ("{name}", {size}, {parameters:_}, {macs:_}),')
        return
    lines = []
    for name, build in {**NETWORKS, **SPECIFICATIONS}.items():
        network, size = build(), image_size(name)
        images, logits = golden(network, size)
        lines.append(json.dumps({"network": name, "size": size, "logits": logits[:, :KEPT].flatten().tolist()}))
        if arguments.checkpoints and name in NETWORKS:
            arguments.checkpoints.mkdir(parents=True, exist_ok=True)
            tensors = {key: tensor.float().contiguous() for key, tensor in network.state_dict().items() if "num_batches" not in key}
            save_file(tensors, arguments.checkpoints / f"{name}.safetensors")
            np.save(arguments.checkpoints / f"{name}.images.npy", images.numpy())
            np.save(arguments.checkpoints / f"{name}.logits.npy", logits.numpy())
    GOLDENS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()

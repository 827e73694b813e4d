"""RepVGG (Ding et al., 2101.03697) in PyTorch, with the official parameter names, for tools/parity.py."""

import dataclasses
import json

import torch
from torch import Tensor, nn

A, B, D = (2, 4, 14, 1), (4, 6, 16, 1), (8, 14, 24, 1)


@dataclasses.dataclass(frozen=True)
class Spec:
    """The fields of a specification file."""

    depths: tuple[int, ...]
    width: tuple[float, ...]
    groups: int = 1
    se: str = "none"
    auxiliary_heads: bool = False
    classes: int = 1000
    strides: tuple[int, ...] = (2, 2, 2, 2, 2)

    def toml(self) -> str:
        """The specification as TOML, whose arrays, strings and booleans are those of JSON."""
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in dataclasses.asdict(self).items())


B1, B2, B3 = (2, 2, 2, 4), (2.5, 2.5, 2.5, 5), (3, 3, 3, 5)
SPECS = {
    "a0": Spec(A, (0.75, 0.75, 0.75, 2.5)),
    "a1": Spec(A, (1, 1, 1, 2.5)),
    "a2": Spec(A, (1.5, 1.5, 1.5, 2.75)),
    "b0": Spec(B, (1, 1, 1, 2.5)),
    **{f"b{n}": Spec(B, width) for n, width in [(1, B1), (2, B2), (3, B3)]},
    **{f"b{n}g{g}": Spec(B, width, groups=g) for n, width in [(1, B1), (2, B2), (3, B3)] for g in (2, 4)},
    "d2se": Spec(D, B2, se="before_relu"),
    "l2pse": Spec(D, B2, se="after_relu", auxiliary_heads=True),
    "custom": Spec((1, 2, 3, 1), (0.25, 0.25, 0.25, 0.125), groups=2, se="before_relu", classes=10, strides=(1, 1, 2, 2, 2)),
}


def branch(channels: int, filters: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    modules = nn.Sequential()
    modules.add_module("conv", nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False))
    modules.add_module("bn", nn.BatchNorm2d(filters))
    return modules


def squeeze_excite(channels: int, reduction: int) -> nn.Module:
    module = nn.Module()
    module.down = nn.Conv2d(channels, channels // reduction, 1)
    module.up = nn.Conv2d(channels // reduction, channels, 1)
    return module


def excited(module: nn.Module, x: Tensor) -> Tensor:
    return x * module.up(module.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Block(nn.Module):
    """The ReLU of a sum of three branches, or of one convolution after `fuse`."""

    def __init__(self, channels: int, filters: int, stride: int, groups: int, se: str):
        super().__init__()
        if se == "before_relu":
            self.se = squeeze_excite(filters, 16)
        if se == "after_relu":
            self.post_se = squeeze_excite(filters, 4)
        if channels == filters and stride == 1:
            self.rbr_identity = nn.BatchNorm2d(channels)
        self.rbr_dense = branch(channels, filters, 3, stride, groups)
        self.rbr_1x1 = branch(channels, filters, 1, stride, groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rbr_reparam(x) if hasattr(self, "rbr_reparam") else self.rbr_dense(x) + self.rbr_1x1(x)
        if hasattr(self, "rbr_identity"):
            y = y + self.rbr_identity(x)
        if hasattr(self, "se"):
            y = excited(self.se, y)
        y = y.relu()
        return excited(self.post_se, y) if hasattr(self, "post_se") else y

    def fuse(self) -> None:
        """Fuses in place: the branches and their batch norms become one kernel and a bias."""
        conv = self.rbr_dense.conv
        channels, filters, groups = conv.in_channels, conv.out_channels, conv.groups
        fused = nn.Conv2d(channels, filters, 3, conv.stride, 1, groups=groups).to(conv.weight)
        kernel, bias = torch.zeros_like(fused.weight), torch.zeros_like(fused.bias)
        for name, half in [("rbr_dense", 0), ("rbr_1x1", 1)]:
            conv, norm = getattr(self, name)
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            kernel += nn.functional.pad(conv.weight * scale[:, None, None, None], [half] * 4)
            bias += norm.bias - norm.running_mean * scale
            delattr(self, name)
        if hasattr(self, "rbr_identity"):
            norm, rows = self.rbr_identity, torch.arange(filters)
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            kernel[rows, rows % (channels // groups), 1, 1] += scale
            bias += norm.bias - norm.running_mean * scale
            del self.rbr_identity
        fused.weight.data, fused.bias.data = kernel, bias
        self.rbr_reparam = fused


def auxiliary(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(branch(channels, channels, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes))


class RepVgg(nn.Module):
    def __init__(self, spec: Spec):
        super().__init__()
        widths = [int(base * width) for base, width in zip((64, 128, 256, 512), spec.width)]
        self.stage0 = Block(3, min(64, widths[0]), spec.strides[0], 1, spec.se)
        channels, index = min(64, widths[0]), 1
        for stage, (depth, filters) in enumerate(zip(spec.depths, widths), 1):
            blocks = []
            for position in range(depth):
                stride = spec.strides[stage] if position == 0 else 1
                blocks.append(Block(channels, filters, stride, spec.groups if index % 2 == 0 else 1, spec.se))
                channels, index = filters, index + 1
            for name, part in self.parts(f"stage{stage}", blocks, spec.auxiliary_heads):
                self.add_module(name, part)
        if spec.auxiliary_heads:
            for name, filters in zip(("stage1", "stage2", "stage3_first"), widths):
                self.add_module(f"{name}_aux", auxiliary(filters, spec.classes))
        self.linear = nn.Linear(channels, spec.classes)

    @staticmethod
    def parts(name: str, blocks: list[Block], plus: bool) -> list[tuple[str, nn.Module]]:
        """A stage under its official names: a list or, in RepVGGplus, a module with a list, of which stage 3 has two."""
        if not plus:
            return [(name, nn.ModuleList(blocks))]
        half = len(blocks) // 2
        halves = [(f"{name}_first", blocks[:half]), (f"{name}_second", blocks[half:])] if name == "stage3" else [(name, blocks)]
        return [(name, nn.ModuleDict({"blocks": nn.ModuleList(blocks)})) for name, blocks in halves]

    def blocks(self) -> list[Block]:
        return [module for module in self.modules() if isinstance(module, Block)]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks():
            x = block(x)
        return self.linear(x.mean((2, 3)))

    def fuse(self) -> None:
        """Fuses in place and removes the auxiliary heads."""
        for block in self.blocks():
            block.fuse()
        for name in [name for name, _ in self.named_children() if name.endswith("_aux")]:
            delattr(self, name)


def randomise_norm(norm: nn.BatchNorm2d, x: Tensor, scale: float) -> None:
    """Fills in roughly the statistics of training on `x`, with random numbers in all four vectors."""
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    variance = variance.clamp(min=variance.mean() / 2)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty_like(mean).uniform_(low, high)

    norm.running_mean.copy_(mean + variance.sqrt() * uniform(-0.3, 0.3))
    norm.running_var.copy_(variance * uniform(0.5, 1.5))
    norm.weight.copy_(scale * uniform(0.5, 1.5))
    norm.bias.copy_(uniform(-0.3, 0.3))


def randomise_block(block: Block, x: Tensor) -> None:
    """Lets the identity outweigh the convolutions, as in trained networks: otherwise rounding errors would grow with depth."""
    scale = 1.0
    if hasattr(block, "rbr_identity"):
        randomise_norm(block.rbr_identity, x, scale)
        scale = 0.2
    for conv, norm in (block.rbr_dense, block.rbr_1x1):
        randomise_norm(norm, conv(x), scale)


def pictures(count: int, height: int, width: int) -> Tensor:
    """Blobs and noise, `[N, 3, H, W]`: a deep network hardly distinguishes images of pure noise."""
    blobs = nn.functional.interpolate(torch.randn(count, 3, 5, 5), (height, width), mode="bilinear")
    return blobs + 0.3 * torch.randn(count, 3, height, width)


@torch.no_grad()
def network(spec: Spec, seed: int) -> RepVgg:
    """A network in evaluation mode, without trivial batch norms, with values around one and logits of up to five.

    Its statistics come from pictures and noise: a deep network adapted to only one of them may respond to the other with values
    that grow from layer to layer, and so do rounding errors.
    """
    torch.manual_seed(seed)
    model = RepVgg(spec).eval()
    images = x = torch.cat([pictures(4, 64, 64), torch.randn(4, 3, 64, 64)])
    for block in model.blocks():
        randomise_block(block, x)
        x = block(x)
    model.linear.weight *= 5 / model(images).abs().max()
    return model

"""Writes PyTorch's results for a few training steps of tiny RepVGG networks, for crates/repvgg-train/tests.

    python tools/goldens_train.py crates/repvgg-train/tests/data

Everything is computed in float64 from float32 starting values and rounded once to float32 at the end, so that the file holds the
true values without PyTorch's own rounding errors. Generated with PyTorch 2.15.0.

Each file holds images, labels, losses (one per step, before its update) and logits (of the final network in eval mode); `initial.*` and
`final.*` for every parameter and running statistic; and `gradient.*`, the gradient of the first step, for every parameter.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

STEPS, CLASSES, SIZE, BATCH = 5, 4, 12, 6


class Block(nn.Module):
    def __init__(self, channels, filters, stride=1, groups=1, squeeze=None):
        super().__init__()
        if squeeze:
            self.se = nn.Module()
            self.se.down = nn.Conv2d(filters, squeeze, 1)
            self.se.up = nn.Conv2d(squeeze, filters, 1)
        if channels == filters and stride == 1:
            self.rbr_identity = nn.BatchNorm2d(channels)
        for name, kernel in [("rbr_dense", 3), ("rbr_1x1", 1)]:
            branch = nn.Sequential()
            conv = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
            branch.add_module("conv", conv)
            branch.add_module("bn", nn.BatchNorm2d(filters))
            self.add_module(name, branch)

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        if hasattr(self, "rbr_identity"):
            y = y + self.rbr_identity(x)
        if hasattr(self, "se"):
            scale = self.se.down(y.mean((2, 3), keepdim=True)).relu()
            y = y * self.se.up(scale).sigmoid()
        return y.relu()


class Network(nn.Module):
    def __init__(self, groups=1, squeeze=None, auxiliary=False):
        super().__init__()
        self.stage0 = Block(3, 8, squeeze=squeeze)
        self.stage1 = nn.Sequential(Block(8, 8, 2), Block(8, 8, groups=groups, squeeze=squeeze))
        self.stage2 = nn.Sequential(Block(8, 16, 2), Block(16, 16, groups=groups, squeeze=squeeze))
        self.linear = nn.Linear(16, CLASSES)
        if auxiliary:
            conv = nn.Sequential()
            conv.add_module("conv", nn.Conv2d(8, 8, 3, 2, 1, bias=False))
            conv.add_module("bn", nn.BatchNorm2d(8))
            head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, CLASSES)]
            self.stage1_aux = nn.Sequential(conv, head[0], head[1], head[2])

    def forward(self, x):
        x = self.stage1(self.stage0(x))
        outputs = [self.linear(self.stage2(x).mean((2, 3)))]
        if hasattr(self, "stage1_aux"):
            conv, relu, pool, linear = self.stage1_aux
            outputs.append(linear(pool(relu(conv(x))).flatten(1)))
        return outputs


def randomise(network, generator):
    """Fills in random γ, β and running statistics, so that no error hides behind ones and zeros."""
    uniform = lambda like, low, high: torch.empty_like(like).uniform_(low, high, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = uniform(module.weight.data, 0.5, 1.5)
            module.bias.data = uniform(module.bias.data, -0.3, 0.3)
            module.running_mean = uniform(module.running_mean, -0.5, 0.5)
            module.running_var = uniform(module.running_var, 0.5, 1.5)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = module.weight[0].numel() ** -0.5
            for parameter in module.parameters():
                parameter.data = uniform(parameter.data, -bound, bound)


def decays(name):
    return name.endswith("rbr_identity.weight") or (name.endswith(".weight") and ".bn." not in name)


def tensors(network, prefix):
    state = network.state_dict()
    return {f"{prefix}.{name}": value.float().clone() for name, value in state.items() if "num_batches" not in name}


def golden(path, seed, nesterov, **shape):
    generator = torch.Generator().manual_seed(seed)
    network = Network(**shape)
    randomise(network, generator)
    images = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    saved = {"images": images, "labels": labels, **tensors(network, "initial")}
    network.double().train()
    parameters = list(network.named_parameters())
    groups = [
        {"params": [value for name, value in parameters if decays(name)], "weight_decay": 1e-4},
        {"params": [value for name, value in parameters if not decays(name)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=nesterov)
    losses = []
    for step in range(STEPS):
        outputs = network(images.double())
        terms = [functional.cross_entropy(output, labels, label_smoothing=0.1) for output in outputs]
        loss = terms[0] + 0.1 * sum(terms[1:])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            saved |= {f"gradient.{name}": value.grad.float() for name, value in parameters}
        optimizer.step()
        losses.append(loss.item())
    saved["losses"] = torch.tensor(losses)
    saved |= tensors(network, "final")
    network.eval()
    with torch.no_grad():
        saved["logits"] = network(images.double())[0].float()
    save_file(saved, path)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    golden(folder / "groups.safetensors", seed=1, nesterov=False, groups=2)
    golden(folder / "squeeze.safetensors", seed=2, nesterov=True, squeeze=4, auxiliary=True)

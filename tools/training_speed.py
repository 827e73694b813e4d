"""Measures training steps in PyTorch, in images per second, on the networks of crates/repvgg-train/examples/training_speed.rs.

    python tools/training_speed.py [small|a0] [BATCH] [STEPS] [THREADS]
"""

import sys
import time

import torch
from torch import nn
from torch.nn import functional

NETWORKS = {
    "small": ([1, 2, 4, 6, 1], [32, 32, 64, 128, 256]),
    "a0": ([1, 2, 4, 14, 1], [48, 48, 96, 192, 1280]),
}
STRIDES = [1, 1, 2, 2, 2]


def branch(channels, filters, kernel, stride):
    conv = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(filters))


class Block(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.dense = branch(channels, filters, 3, stride)
        self.point = branch(channels, filters, 1, stride)
        self.identity = nn.BatchNorm2d(channels) if channels == filters and stride == 1 else None

    def forward(self, x):
        y = self.dense(x) + self.point(x)
        if self.identity is not None:
            y = y + self.identity(x)
        return functional.relu(y)


def network(depths, widths):
    blocks, channels = [], 3
    for depth, width, stride in zip(depths, widths, STRIDES):
        for index in range(depth):
            blocks.append(Block(channels, width, stride if index == 0 else 1))
            channels = width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def measure(name, batch, steps, layout):
    torch.manual_seed(0)
    model = network(*NETWORKS[name]).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=layout)
    labels = torch.arange(batch) % 10
    times = []
    for step in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        if step >= 2:
            times.append(time.perf_counter() - start)
    times.sort()
    median, best = times[len(times) // 2], times[0]
    what = "channels_last" if layout == torch.channels_last else "NCHW"
    rates = f"{batch / median:.1f} images/s median, {batch / best:.1f} best ({median * 1e3:.1f} ms, {best * 1e3:.1f} ms)"
    print(f"PyTorch {torch.__version__} {what} {name}, batch {batch}: {rates}", flush=True)


if __name__ == "__main__":
    name, batch, steps, threads = (sys.argv[1:] + ["small", "64", "10", "2"][len(sys.argv) - 1 :])[:4]
    torch.set_num_threads(int(threads))
    for layout in (torch.channels_last, torch.contiguous_format):
        measure(name, int(batch), int(steps), layout)

"""PyTorch networks missing from torchvision and timm: ShuffleNet V1, and NASNet-A in sizes that timm lacks."""

import torch
import torch.nn.functional as F
from timm.layers.padding import pad_same
from timm.models.nasnet import NASNetALarge
from torch import nn


class ShuffleNetV1(nn.Module):
    """ShuffleNet with the parameter names of github.com/megvii-model/ShuffleNet-Series."""

    def __init__(self, groups=3, channels=240, width=1.0, stem=24, depths=(4, 8, 4), num_classes=1000):
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        units, before = [], stem
        for stage, depth in enumerate(depths):
            after = int((channels << stage) * width)
            for index in range(depth):
                units.append(ShuffleUnit(before, after, 1 if not units else groups, groups, index == 0))
                before = after
        self.features = nn.Sequential(*units)
        self.classifier = nn.Sequential(nn.Linear(before, num_classes, bias=False))

    def forward(self, x):
        x = F.max_pool2d(self.first_conv(x), 3, 2, 1)
        return self.classifier(self.features(x).mean((2, 3)))


class ShuffleUnit(nn.Module):
    def __init__(self, before, after, first_groups, groups, is_halved):
        super().__init__()
        self.groups, self.is_halved = groups, is_halved
        middle, stride = after // 4, 2 if is_halved else 1
        appended = after - before if is_halved else after
        self.branch_main_1 = nn.Sequential(
            nn.Conv2d(before, middle, 1, groups=first_groups, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
        )
        self.branch_main_2 = nn.Sequential(nn.Conv2d(middle, appended, 1, groups=groups, bias=False), nn.BatchNorm2d(appended))

    def forward(self, x):
        y = self.branch_main_1(x)
        y = torch.cat([y[:, first :: self.groups] for first in range(self.groups)], 1)
        y = self.branch_main_2(y)
        if self.is_halved:
            return torch.cat([F.avg_pool2d(x, 3, 2, 1), F.relu(y)], 1)
        return F.relu(x + y)


class MeanInside(nn.Module):
    """The mean over the part of each window inside the map, with TensorFlow's padding."""

    def forward(self, x):
        sums, counts = (F.avg_pool2d(pad_same(value, [3, 3], [2, 2]), 3, 2) for value in (x, torch.ones_like(x)))
        return sums / counts


class NASNetA(NASNetALarge):
    """timm's network with fewer cells per stage, and the reductions and padding of the paper's mobile network."""

    def __init__(self, cells, num_features, stem_size, num_classes=1000):
        super().__init__(num_classes=num_classes, stem_size=stem_size, num_features=num_features)
        self.stages = [[f"cell_{first + index}" for index in range(cells)] for first in (0, 6, 12)]
        for name, _ in list(self.named_children()):
            if name.startswith("cell_") and "stem" not in name and not any(name in stage for stage in self.stages):
                delattr(self, name)
        halving = [self.cell_stem_0, self.cell_stem_1, self.reduction_cell_0, self.reduction_cell_1]
        for cell in halving:
            cell.comb_iter_2_left = MeanInside()

    def forward_features(self, x):
        stem = self.conv0(x)
        before = self.cell_stem_0(stem)
        x = self.cell_stem_1(stem, before)
        for stage, names in enumerate(self.stages):
            if stage > 0:
                before, x = x, getattr(self, f"reduction_cell_{stage - 1}")(x, before)
            for name in names:
                before, x = x, getattr(self, name)(x, before)
        return self.act(x)

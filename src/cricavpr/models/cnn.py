"""Convolutional backbones ("trunks") of the compared methods: VGG-16 and ResNet, with torchvision's weight names.

Sources: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015), table 1,
column D; He et al., "Deep Residual Learning for Image Recognition" (2016), table 1. As in torchvision, and unlike the
second paper, the stride of a bottleneck is in the 3x3 convolution. Letters: B images, C channels, feature maps of h x w
cells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from cricavpr.errors import InputError

# ---- VGG -----------------------------------------------------------------------------------------------------------

VGG16_STAGES = (
    (64, 64),
    (128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (512, 512, 512),
)  # output channels; a max-pool ends each stage
VGG16_CUTS = {"conv5_3": 29, "pool5": 31}  # last layer: how many of the 31 modules are kept
VGG16_CHANNELS = 512
VGGCut = Literal["conv5_3", "pool5"]


def vgg16_features(last: VGGCut = "conv5_3") -> nn.Sequential:
    """Return the convolutional part of VGG-16, which maps (B, 3, H, W) to (B, 512, h, w).

    Its layers have the same numbers as those of `features` in torchvision's VGG-16.

    Args:
        last: "conv5_3" ends before the last ReLU, at stride 16, as in most papers. So its feature maps have negative
            values. "pool5" includes the last ReLU and max-pool, at stride 32.
    """
    modules: list[nn.Module] = []
    inputs = 3
    for stage in VGG16_STAGES:
        for outputs in stage:
            modules += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        modules.append(nn.MaxPool2d(2))
    return _initialised(nn.Sequential(*modules[: VGG16_CUTS[last]]))


# ---- ResNet --------------------------------------------------------------------------------------------------------

RESNET_BLOCKS = {  # blocks in each of the four stages
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
RESNET_WIDTHS = (64, 128, 256, 512)  # channels inside the blocks of each of the four stages
FIRST_BOTTLENECK = 50  # networks of this depth or deeper consist of bottleneck blocks


class BasicBlock(nn.Module):
    """Block of two 3x3 convolutions with a shortcut."""

    widening = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        update = torch.relu(self.bn1(self.conv1(maps)))
        update = self.bn2(self.conv2(update))
        return torch.relu(update + self.downsample(maps))


class Bottleneck(nn.Module):
    """Block with a shortcut around three convolutions: 1x1 to fewer channels, 3x3, and 1x1 to four times as many."""

    widening = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, width * self.widening, 1)
        self.bn3 = nn.BatchNorm2d(width * self.widening)
        self.downsample = _shortcut(inputs, width * self.widening, stride)

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        update = torch.relu(self.bn1(self.conv1(maps)))
        update = torch.relu(self.bn2(self.conv2(update)))
        update = self.bn3(self.conv3(update))
        return torch.relu(update + self.downsample(maps))


def resnet(depth: int, last_stage: int = 4) -> nn.Sequential:
    """Return the first `last_stage` stages of a ResNet, which map (B, 3, H, W) to (B, C, h, w).

    The output of stage 4 is 32 times smaller than the image.

    Its children have torchvision's names. `nn.Sequential(*resnet(50))` is the same network with children numbered from
    0 to 7, as in the weights files of several authors.
    """
    resnet_channels(depth, last_stage)  # raises InputError if depth or stage is unknown
    block = Bottleneck if depth >= FIRST_BOTTLENECK else BasicBlock
    children: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=_conv(3, 64, 7, stride=2),
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    inputs = 64
    for stage, (width, count) in enumerate(zip(RESNET_WIDTHS, RESNET_BLOCKS[depth], strict=True), start=1):
        if stage > last_stage:
            break
        outputs = width * block.widening
        widths = [inputs] + [outputs] * count
        strides = [1 if stage == 1 else 2] + [1] * (count - 1)
        blocks = [block(before, width, stride) for (before, _), stride in zip(pairwise(widths), strides, strict=True)]
        children[f"layer{stage}"] = nn.Sequential(*blocks)
        inputs = outputs
    return _initialised(nn.Sequential(children))


def resnet_channels(depth: int, last_stage: int = 4) -> int:
    """Return how many channels stage `last_stage` of a ResNet outputs.

    Raises:
        InputError: the depth or the stage is unknown.

    Example:
        >>> resnet_channels(50), resnet_channels(50, last_stage=3)
        (2048, 1024)
    """
    if depth not in RESNET_BLOCKS or not 1 <= last_stage <= 4:
        known = ", ".join(map(str, RESNET_BLOCKS))
        raise InputError(
            f"there is no ResNet-{depth} with a stage {last_stage}. Known depths: {known}; stages: 1 to 4."
        )
    widening = Bottleneck.widening if depth >= FIRST_BOTTLENECK else BasicBlock.widening
    return RESNET_WIDTHS[last_stage - 1] * widening


def resnet_depth_of(names: Iterable[str], third_stage: str) -> int | None:
    """Return the depth of the ResNet whose state dict has these names; return None if no known ResNet fits.

    Args:
        names: names of the entries of a state dict.
        third_stage: prefix of the names in the third stage: "layer3." or, with numbered children, "6.". The number and
            kind of blocks in this stage decide the depth.
    """
    rests = [name.removeprefix(third_stage).split(".") for name in names if name.startswith(third_stage)]
    blocks = len({rest[0] for rest in rests})
    bottlenecks = any("conv3" in rest for rest in rests)
    fitting = [
        depth
        for depth, counts in RESNET_BLOCKS.items()
        if counts[2] == blocks and (depth >= FIRST_BOTTLENECK) == bottlenecks
    ]
    return fitting[0] if fitting else None


# ---- VGG-16 or ResNet, with numbered children ----------------------------------------------------------------------

TRUNKS = {"vgg16": None, **{f"resnet{depth}": depth for depth in RESNET_BLOCKS}}


def numbered_trunk(name: str, vgg_last: VGGCut = "conv5_3", last_stage: int = 4) -> nn.Sequential:
    """Return a convolutional backbone with numbered children, as in the weights files of several authors.

    `name` is a key of TRUNKS.
    """
    depth = TRUNKS[name]
    return vgg16_features(vgg_last) if depth is None else nn.Sequential(*resnet(depth, last_stage))


def numbered_trunk_of(names: Iterable[str], prefix: str = "") -> str | None:
    """Return the name (a key of TRUNKS) of the trunk whose state dict has these names; return None if no trunk fits.

    Args:
        names: names such as "0.weight" or "4.0.conv1.weight".
        prefix: prefix of the names that belong to the trunk, such as "backbone."; other names are ignored.
    """
    names = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    depth = resnet_depth_of(names, third_stage="6.")
    if depth is not None:
        return f"resnet{depth}"
    return "vgg16" if any(name.startswith("28.") for name in names) else None


def trunk_channels(name: str, last_stage: int = 4) -> int:
    """Return how many channels the output of the trunk `name` has; `name` is a key of TRUNKS."""
    depth = TRUNKS[name]
    return VGG16_CHANNELS if depth is None else resnet_channels(depth, last_stage)


# ---- helpers --------------------------------------------------------------------------------------------------------


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _initialised(trunk: nn.Sequential) -> nn.Sequential:
    """Draw the initial weights as in He et al., "Delving Deep into Rectifiers" (2015), and return the trunk."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return trunk

"""BoQ's parts, and its own way of resizing."""

import numpy as np
import torch
import torch.nn.functional as F

from cricavpr.images import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from cricavpr.models.boq import PUBLISHED, BoQ, BoQAggregator, BoQConfig
from cricavpr.models.vit import ViTConfig


def test_the_published_sizes_are_those_of_the_paper() -> None:
    assert {name: config.dim for name, config in PUBLISHED.items()} == {"boq": 12288, "boq-resnet50": 16384}


def test_descriptors_go_channel_by_channel() -> None:
    config = BoQConfig(ViTConfig(64, 1, 1, grid=4), width=64, queries=4, blocks=2, rows=3)
    aggregator = BoQAggregator(config).eval()
    with torch.no_grad():
        aggregator.mix.weight.zero_()
        aggregator.mix.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        out = aggregator(torch.rand(1, 64, 2, 3))
    assert torch.allclose(out.view(64, 3), F.normalize(torch.tensor([1.0, 2.0, 3.0]), dim=0) / 8)


def test_the_final_norm_of_the_backbone_is_not_used() -> None:
    model = BoQ(BoQConfig(ViTConfig(64, 1, 1, grid=4), width=64, queries=4, blocks=2, rows=3)).eval()
    images = torch.rand(1, 3, 28, 42)
    with torch.inference_mode():
        before = model(images)
        model.backbone.norm.weight.zero_()
        assert torch.equal(model(images), before)


def test_resizing_before_or_after_normalising_is_the_same() -> None:
    picture = np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    raw = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    resized = F.interpolate(raw, (28, 42), mode="bicubic", align_corners=False, antialias=True)[0]
    theirs = (resized - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    assert np.abs(Preprocess((28, 42), "tensor_bicubic")(picture) - theirs.numpy()).max() < 1e-5

"""Our vision transformer against outputs of the official DINOv2: square and oblong, with registers and without."""

import pytest
import torch

from cricavpr.models.fitting import dinov2_of
from cricavpr.models.vit import BACKBONES, VisionTransformer
from cricavpr.models.weights import load_strictly

from .rebuilt import arrays, normalised, scenes, state

CASES = [
    ("dinov2_vits14", "224x224 322x322 518x518 224x308 518x504"),
    ("dinov2_vits14_reg", "224x224 322x322 518x518 224x308"),
    ("dinov2_vitb14", "224x224 322x322"),
]


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in CASES for size in sizes.split()])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 2e-5)])
def test_tokens_equal_the_official_ones(name: str, size: str, dtype: torch.dtype, tolerance: float) -> None:
    golden = arrays(name)
    model = _model(name, dtype)
    height, width = map(int, size.split("x"))
    images = scenes(2, height, width, golden[f"{size}_images_sha256"])
    with torch.inference_mode():
        tokens = model(normalised(images).to(dtype))
        positions = model.position_embedding((height // 14, width // 14))[0]
    chosen = golden[f"{size}_patch_indices"]
    patches = tokens.patches.flatten(1, 2)
    pairs = {
        "class_token": tokens.class_token,
        "patch_tokens": patches[:, chosen],
        "patch_token_mean": patches.mean(dim=1),
        "patch_prenorm_sample": tokens.prenorm[:, [0, -1]],
        "pos_embed_sample": positions[[0, *(1 + chosen)], ::8],
    }
    if model.config.registers:
        pairs["register_tokens"] = tokens.registers
    for key, ours in pairs.items():
        theirs = torch.from_numpy(golden[f"{size}_{key}"])
        assert (ours.double() - theirs).abs().max() < tolerance * max(1.0, theirs.abs().max().item()), key


def test_the_table_of_backbones_agrees_with_the_files() -> None:
    for name, _ in CASES:
        assert dinov2_of(state(name), "") == BACKBONES[name.removeprefix("dinov2_")]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vits14", 22_056_576),
        ("vitb14", 86_580_480),
        ("vitl14", 304_368_640),
        ("vitg14", 1_136_480_768),
        ("vits14_reg", 22_058_112),
        ("vitb14_reg", 86_583_552),
        ("vitl14_reg", 304_372_736),
        ("vitg14_reg", 1_136_486_912),
    ],
)
def test_every_size_has_the_official_number_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = VisionTransformer(BACKBONES[name])
    assert sum(p.numel() for p in model.parameters()) == parameters


def _model(name: str, dtype: torch.dtype) -> VisionTransformer:
    tensors = state(name)
    model = VisionTransformer(dinov2_of(tensors, "")).to(dtype).eval()
    load_strictly(model, tensors, name)
    return model

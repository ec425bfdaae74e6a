"""The network's sizes, its regions and its ablations."""

from dataclasses import replace

import pytest
import torch

from cricavpr.errors import InputError
from cricavpr.methods.cricavpr import default_settings
from cricavpr.models.aggregators import pyramid_regions
from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig, config_of, parameter_counts
from cricavpr.models.vit import ViTConfig
from cricavpr.schema import build, to_plain

SMALL = CricaVPRConfig(backbone=ViTConfig(64, 2, 2, grid=4), encoder_heads=4, encoder_ffn=128)


def millions(config: CricaVPRConfig) -> dict[str, float]:
    with torch.device("meta"):
        return {part: round(count / 1e6, 1) for part, count in parameter_counts(CricaVPR(config)).items()}


def test_parameters_are_those_of_supplementary_table_1() -> None:
    ours = {"total": 106.8, "backbone": 86.6, "adapter": 9.2, "others": 11.0, "tunable": 20.2}
    assert millions(CricaVPRConfig()) == ours


def test_full_tuning_is_the_other_row_of_supplementary_table_1() -> None:
    row = {"total": 97.6, "backbone": 86.6, "adapter": 0.0, "others": 11.0, "tunable": 97.6}
    assert millions(CricaVPRConfig(adapter="none", tuning="full")) == row


def test_tiny_has_about_three_million_parameters() -> None:
    assert 2.5 < millions(default_settings("cricavpr-tiny").config)["total"] < 3.7


@pytest.mark.parametrize(
    ("patches", "halves", "thirds"),
    [
        (16, [8, 8], [5, 6, 5]),
        (23, [12, 11], [8, 7, 8]),
        (12, [6, 6], [4, 4, 4]),
        (8, [4, 4], [3, 2, 3]),
        (3, [2, 1], [1, 1, 1]),
    ],
)
def test_regions_are_cut_from_the_grid(patches: int, halves: list[int], thirds: list[int]) -> None:
    def heights(level: int) -> list[int]:
        return [rows.stop - rows.start for rows, _ in pyramid_regions(patches, patches, (level,), "grid")][::level]

    assert (heights(2), heights(3)) == (halves, thirds)


def test_the_authors_cuts_stay_where_they_are_whatever_the_grid() -> None:
    rows = [rows for rows, columns in pyramid_regions(23, 23, (2, 3), "authors") if columns.start == 0]
    assert rows == [slice(0, 8), slice(8, 23), slice(0, 5), slice(5, 11), slice(11, 23)]


def test_a_grid_too_small_for_three_parts_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be cut into 3"):
        CricaVPR(SMALL)(torch.zeros(1, 3, 28, 28))


def test_an_image_that_does_not_divide_into_patches_is_refused() -> None:
    with pytest.raises(InputError, match="multiples of 14"):
        CricaVPR(SMALL)(torch.zeros(1, 3, 56, 60))


@pytest.mark.parametrize("size", [(56, 56), (42, 84), (70, 56)])
def test_any_multiple_of_the_patch_will_do_square_or_not(size: tuple[int, int]) -> None:
    model = CricaVPR(SMALL).eval()
    assert model(torch.rand(2, 3, *size)).shape == (2, 14 * 64)


ABLATIONS = [
    *({"adapter": name} for name in ("mulconv", "conv1x1", "conv3x3", "conv5x5", "convadapter", "bottleneck", "none")),
    *({"encoder_depth": depth} for depth in range(4)),
    *({"aggregator": name} for name in ("pyramid", "gem", "class_token")),
    *({"levels": levels} for levels in ((1,), (1, 2), (2, 3), (1, 2, 3, 4))),
    *({"tuning": tuning} for tuning in ("adapter", "full", "frozen")),
]


@pytest.mark.parametrize("change", ABLATIONS, ids=str)
def test_every_ablation_runs_and_learns(change: dict) -> None:
    config = replace(SMALL, **change)
    model = CricaVPR(config).train()
    descriptors = model(torch.rand(4, 3, 56, 56), [4])
    assert descriptors.shape == (4, config.dim)
    if any(parameter.requires_grad for parameter in model.parameters()):
        descriptors[:, 0].sum().backward()


@pytest.mark.parametrize(
    ("tuning", "learns"),
    [("adapter", {"adapter", "aggregator", "encoder"}), ("frozen", {"aggregator", "encoder"}), ("full", None)],
)
def test_tuning_says_what_learns(tuning: str, learns: set[str] | None) -> None:
    model = CricaVPR(replace(SMALL, tuning=tuning))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if learns is None:
        assert learning == dict(model.named_parameters()).keys()
    else:
        assert {"adapter" if ".adapter." in name else name.split(".")[0] for name in learning} == learns


def test_an_untrained_adapter_changes_nothing() -> None:
    torch.manual_seed(0)
    adapted = CricaVPR(SMALL).eval()
    plain = CricaVPR(replace(SMALL, adapter="none")).eval()
    plain.load_state_dict({k: v for k, v in adapted.state_dict().items() if ".adapter." not in k})
    images = torch.rand(2, 3, 56, 56)
    assert torch.allclose(adapted(images), plain(images), atol=1e-6)


def test_a_config_survives_the_way_through_a_file() -> None:
    config = replace(SMALL, levels=(1, 2), adapter="conv3x3")
    assert build(CricaVPRConfig, to_plain(config), "a file") == config


def test_sizes_are_read_off_the_tensors() -> None:
    config = CricaVPRConfig(
        backbone=ViTConfig(128, 3, 2, grid=5, registers=4, positions="size"), encoder_depth=1, encoder_ffn=99
    )
    assert config_of(CricaVPR(config).state_dict()) == config


def test_a_wrong_adapter_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="mulconv, conv1x1"):
        CricaVPR(replace(SMALL, adapter="conv7x7"))

"""The convolutional trunks: sizes, names, cuts, and how a file's names tell which trunk it holds."""

import pytest
import torch
from torch import nn

from cricavpr.errors import InputError
from cricavpr.models.aggregators import GeM
from cricavpr.models.cnn import (
    RESNET_BLOCKS,
    TRUNKS,
    numbered_trunk,
    numbered_trunk_of,
    resnet,
    resnet_channels,
    resnet_depth_of,
    trunk_channels,
    vgg16_features,
)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("depth", "count"),
    [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160), (152, 58_143_808)],
)
def test_a_resnet_has_the_parameters_of_torchvisions_without_the_classifier(depth: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(resnet(depth)) == count


def test_vgg_has_the_parameters_of_torchvisions_features_whole_and_cut() -> None:
    with torch.device("meta"):
        whole, cut = vgg16_features("pool5"), vgg16_features("conv5_3")
    assert (len(whole), len(cut)) == (31, 29)
    assert parameters(whole) == parameters(cut) == 14_714_688
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert list(cut.state_dict()) == [f"{n}.{kind}" for n in convolutions for kind in ("weight", "bias")]
    assert [n for n, module in enumerate(whole) if isinstance(module, nn.MaxPool2d)] == [4, 9, 16, 23, 30]


def test_the_cut_of_vgg_stands_before_the_relu_and_the_whole_behind_it() -> None:
    images = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cut, whole = vgg16_features("conv5_3")(images), vgg16_features("pool5")(images)
    assert cut.shape == (1, 512, 3, 4) and whole.shape == (1, 512, 1, 2)
    assert cut.min() < 0 <= whole.min()


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_a_resnet_can_end_after_any_stage(stage: int) -> None:
    with torch.inference_mode():
        maps = resnet(18, last_stage=stage).eval()(torch.zeros(1, 3, 64, 96))
    stride = 2 ** (stage + 1)
    assert maps.shape == (1, resnet_channels(18, stage), 64 // stride, 96 // stride)


def test_a_bottleneck_takes_its_stride_in_the_middle() -> None:
    with torch.device("meta"):
        block = resnet(50).get_submodule("layer2.0")
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))


def test_names_are_torchvisions_and_numbers_count_the_children() -> None:
    with torch.device("meta"):
        named, numbered = resnet(50).state_dict(), numbered_trunk("resnet50").state_dict()
    places = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    assert [f"{places.index(name.split('.')[0])}.{name.split('.', 1)[1]}" for name in named] == list(numbered)
    assert {"conv1.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.running_var"} <= set(named)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_names_in_a_file_tell_the_trunk(trunk: str) -> None:
    with torch.device("meta"):
        names = numbered_trunk(trunk).state_dict()
    assert numbered_trunk_of(names) == trunk
    assert trunk_channels(trunk) == (512 if trunk in ("vgg16", "resnet18", "resnet34") else 2048)


@pytest.mark.parametrize("depth", RESNET_BLOCKS)
def test_the_third_stage_is_enough_to_tell(depth: int) -> None:
    with torch.device("meta"):
        names = resnet(depth, last_stage=3).state_dict()
    assert resnet_depth_of(names, "layer3.") == depth
    assert resnet_depth_of(names, "layer4.") is None
    assert numbered_trunk_of(["0.weight"]) is None


@pytest.mark.parametrize(("depth", "stage"), [(51, 4), (50, 0), (50, 5)])
def test_a_resnet_that_does_not_exist_is_refused(depth: int, stage: int) -> None:
    with pytest.raises(InputError, match=r"Known depths: 18, 34, 50, 101, 152; stages: 1 to 4"):
        resnet(depth, stage)


def test_gem_of_a_whole_map_is_the_mean_at_power_one_and_near_the_maximum_at_a_high_one() -> None:
    maps = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(GeM(1.0).double().whole(maps), maps.mean(dim=(2, 3)))
    assert torch.allclose(GeM(300.0).double().whole(maps), maps.amax(dim=(2, 3)), rtol=0.02)

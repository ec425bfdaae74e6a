"""NetVLAD and SFRS with their authors' weights: VGG-16, NetVLAD and, where the file has one, a whitening.

Sources: Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition" (CVPR 2016), as its
authors published it and as Nanne/pytorch-NetVlad trained it again; Ge et al., "Self-supervising Fine-grained Region
Similarities for Large-scale Image Localization" (ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.files import sha256_of
from cricavpr.images import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from cricavpr.matlab import is_matlab
from cricavpr.methods.matconvnet import read_matconvnet
from cricavpr.methods.single import RANDOM, DType, Settings, SingleImageMethod, with_weights

if TYPE_CHECKING:
    from cricavpr.models.netvlad import Flattening, VLADNet

Colour = tuple[float, float, float]
CAFFE_MEAN: Colour = (0.48501960784313836, 0.4579568627450961, 0.4076039215686255)  # of 0..1: 123.68, 116.78, 103.94
CAFFE_STD: Colour = (0.00392156862745098,) * 3  # 1/255: pixels stay in 0..255
SFRS_SIZE = (480, 640)


@dataclass(frozen=True)
class VLADSettings(Settings):
    """What a user may set.

    Attributes:
        whitening: leave it out with False, where the file has one.
        shorten_to: keep so many values of a whitened descriptor; None keeps all.
    """

    whitening: bool = True
    shorten_to: int | None = None


class VLADMethod(SingleImageMethod):
    """A network with NetVLAD, ready to describe images."""

    def __init__(
        self,
        name: str,
        model: VLADNet,
        settings: VLADSettings,
        weights: str,
        device: str,
        mean: Colour = IMAGENET_MEAN,
        std: Colour = IMAGENET_STD,
    ) -> None:
        if not settings.whitening:
            model.leave_unwhitened()
        if settings.shorten_to is not None:
            model.shorten(settings.shorten_to)
        super().__init__(name, model, settings, weights, device)
        self.network = model
        self.preprocess = Preprocess(settings.image_size, settings.resize, mean, std)
        exact = "" if settings.dtype == "float32" else f"; {settings.dtype}"
        self.preprocessing = f"{self.preprocess.describe()}{exact}{'' if settings.whitening else '; not whitened'}"


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> VLADMethod:
    """Build the network that the weights are for, `netvlad` or `sfrs`, and load them strictly.

    NetVLAD comes in two forms: the MATLAB file of its first authors, whitened, and Nanne's checkpoint, which is not.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting, or a descriptor that cannot be shortened so.
    """
    from cricavpr.models.netvlad import CLUSTERS, NANNE, OPENIBL, WHITENED

    drawn = str(weights).startswith(RANDOM)
    settings = VLADSettings(image_size=SFRS_SIZE if name == "sfrs" else None).overridden(overrides, name)
    assert isinstance(settings, VLADSettings)
    if name == "sfrs":
        model, mark = from_torch(weights, settings.dtype, OPENIBL, (CLUSTERS, "clusters", WHITENED))
        return VLADMethod(name, model, settings, mark, device, CAFFE_MEAN, CAFFE_STD)
    path = Path() if drawn else _found(weights)
    if not drawn and is_matlab(path):
        model, mark, mean = _from_matlab(path, settings.dtype)
        return VLADMethod(name, model, settings, mark, device, mean, CAFFE_STD)
    model, mark = from_torch(weights if drawn else path, settings.dtype, NANNE, (CLUSTERS, "channels", WHITENED))
    if drawn:  # as its first authors published it
        return VLADMethod(name, model, settings, mark, device, CAFFE_MEAN, CAFFE_STD)
    return VLADMethod(name, model, settings, mark, device)


def from_torch(
    weights: str | Path,
    dtype: DType,
    names: Mapping[str, str],
    published: tuple[int, Flattening, int | None],  # clusters, what comes first, values after whitening
) -> tuple[VLADNet, str]:
    """A network from a file of torch in an author's names, or drawn in the published size; and the weights' SHA-256."""
    from cricavpr.models.fitting import of_their_size
    from cricavpr.models.netvlad import VLADNet, from_authors_names, network_of

    return with_weights(
        weights,
        dtype,
        published=lambda: VLADNet(*published),
        fitting=lambda tensors, source: of_their_size(lambda: network_of(tensors), tensors, source),
        renamed=lambda tensors: from_authors_names(tensors, names),
    )


def _from_matlab(path: Path, dtype: DType) -> tuple[VLADNet, str, Colour]:
    import torch

    from cricavpr.models.fitting import of_their_size
    from cricavpr.models.netvlad import network_of
    from cricavpr.models.registry import check_recorded
    from cricavpr.models.weights import load_strictly

    mark = sha256_of(path)
    check_recorded(path, mark)
    tensors, mean = read_matconvnet(path)
    model = of_their_size(lambda: network_of(tensors, "channels"), tensors, str(path))
    model = model.to(torch.float64 if dtype == "float64" else torch.float32)
    load_strictly(model, tensors, str(path))
    red, green, blue = (level / 255 for level in mean)
    return model, mark, (red, green, blue)


def _found(weights: str | Path) -> Path:
    from cricavpr.models.registry import find_weights

    return find_weights(weights)

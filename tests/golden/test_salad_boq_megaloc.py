"""Our SALAD, BoQ and MegaLoc against outputs of the authors' implementations, from files in the authors' form."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from cricavpr.methods import load_method
from cricavpr.methods.families import TorchMethod
from cricavpr.models import boq, salad
from cricavpr.models.weights import load_strictly

from .rebuilt import arrays, described, lengths, normalised, scenes, state


@dataclass(frozen=True)
class Published:
    """One method as published.

    Attributes:
        golden: the name of its golden file.
        sizes: of the golden images.
        step: every how manieth value of a descriptor the golden file has.
        float64: how far float64 may be off, in length; DINOv2 takes its positions in float32 always.
    """

    golden: str
    filename: str
    renamed: Callable[..., dict[str, Tensor]]
    dim: int
    sizes: tuple[str, ...]
    step: int = 3
    float64: float = 1e-5


PUBLISHED = {
    "salad": Published(
        "salad_dinov2_vitb14",
        "dino_salad.ckpt",
        salad.from_authors_names,
        8448,
        ("224x224", "224x308", "322x322"),
        step=1,
    ),
    "boq": Published("boq_dinov2_12288", "dinov2_12288.pth", boq.from_authors_names, 12288, ("224x224", "322x322")),
    "boq-resnet50": Published(
        "boq_resnet50_16384", "resnet50_16384.pth", boq.from_authors_names, 16384, ("384x384",), float64=1e-8
    ),
    "megaloc": Published(
        "megaloc", "model.safetensors", salad.from_authors_names, 8448, ("224x224", "240x320", "322x322")
    ),
}
FLOAT32 = 1e-4  # length of the difference


QUICK = {  # the rest takes minutes and is left for the slow run
    ("salad", "float32", "224x308"),
    ("salad", "float64", "224x224"),
    ("boq", "float32", "224x224"),
    ("boq", "float64", "224x224"),
    ("boq-resnet50", "float32", "384x384"),
    ("megaloc", "float32", "240x320"),
}


def cases() -> list[object]:
    """Every size in both precisions."""
    every = [(n, dtype, size) for n in PUBLISHED for dtype in ("float32", "float64") for size in PUBLISHED[n].sizes]
    return [pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in every]


@pytest.fixture(scope="module")
def loaded() -> Iterator[Callable[[str, str], TorchMethod]]:
    """Methods by name and precision, from files as published; one at a time, and no file stays."""

    @lru_cache(maxsize=1)
    def load(name: str, dtype: str) -> TorchMethod:
        with tempfile.TemporaryDirectory() as folder:
            method = load_method(name, _as_published(name, Path(folder)), dtype=dtype)
        assert isinstance(method, TorchMethod)
        if dtype == "float64":  # the file is float32: give the golden weights in full
            load_strictly(method.network, PUBLISHED[name].renamed(state(PUBLISHED[name].golden)), "golden")
        return method

    yield load
    load.cache_clear()


def _as_published(name: str, folder: Path) -> Path:
    """A flat state dict, batch norm's counters among it, in a safetensors file where that is the authors' form."""
    published = PUBLISHED[name]
    theirs = {key: value.float() for key, value in state(published.golden).items()}
    counters = {
        k.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for k in theirs if "running_mean" in k
    }
    path = folder / published.filename
    if path.suffix == ".safetensors":
        save_file({**theirs, **counters}, path)
    else:
        torch.save({**theirs, **counters}, path)
    return path


def _images(name: str, size: str) -> Tensor:
    height, width = map(int, size.split("x"))
    images = normalised(scenes(3, height, width, arrays(PUBLISHED[name].golden)[f"{size}_images_sha256"]))
    whole = [14 * round(side / 14) for side in images.shape[-2:]]
    return images if name != "megaloc" else F.interpolate(images, whole, mode="bilinear", antialias=True)


@pytest.mark.parametrize(("name", "dtype", "size"), cases())
def test_descriptors_are_the_authors(
    loaded: Callable[[str, str], TorchMethod], name: str, dtype: str, size: str
) -> None:
    published = PUBLISHED[name]
    golden, images, method = arrays(published.golden), _images(name, size), loaded(name, dtype)
    tolerance = FLOAT32 if dtype == "float32" else published.float64
    together = described(method, images)
    assert (method.dim, together.shape) == (published.dim, (3, published.dim))
    assert (together.norm(dim=1) - 1).abs().max() < 1e-5
    ours = together[:, :: published.step]
    assert lengths(ours, golden[f"{size}_descriptors"]) < tolerance
    wrong = (ours.roll(1, 0).double() - torch.from_numpy(golden[f"{size}_descriptors"])).norm(dim=1)
    assert wrong.min() > 0.1, "every wrong image must fail"
    single = described(method, images[:1])[:, :: published.step]
    assert lengths(single, golden[f"{size}_single_first"]) < tolerance

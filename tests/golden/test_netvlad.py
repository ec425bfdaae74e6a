"""Our NetVLAD and SFRS against outputs of the authors' implementations, loaded from files in the authors' forms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from cricavpr.methods import load_method
from cricavpr.methods.netvlad import VLADMethod
from cricavpr.models.netvlad import NetVLAD

from .rebuilt import arrays, described, lengths, normalised, scenes, seeded_images, state

DESCRIPTOR = {"float32": 1e-4, "float64": 1e-8}  # length of the difference, see the golden files' tolerances
IMAGES = {"float32": 4, "float64": 1}  # how many of the golden images are described
CAFFE = torch.tensor([0.48501960784313836, 0.4579568627450961, 0.4076039215686255], dtype=torch.float64)[:, None, None]
AVERAGE_IMAGE = np.array([123.68, 116.779, 103.939])


def nanne(folder: Path, name: str) -> Path:
    """As trained on one GPU."""
    path = folder / f"{name}.pth.tar"
    torch.save({"epoch": 7, "state_dict": state(name), "recalls": {1: np.float64(0.8)}, "parallel": False}, path)
    return path


def nanne_parallel(folder: Path, name: str) -> Path:
    """As trained on several, in the form of the torch of that year: each part is wrapped, not the whole."""
    theirs = {key.replace(".", ".module.", 1): value for key, value in state(name).items()}
    path = folder / f"{name}.pth.tar"
    torch.save({"epoch": 7, "state_dict": theirs, "parallel": True}, path, _use_new_zipfile_serialization=False)
    return path


def matconvnet(folder: Path, name: str) -> Path:
    """The network as MatConvNet stores it: layers in a cell, kernels (h, w, in, out), centres with the sign turned."""
    theirs = {key: value.numpy() for key, value in state(name).items()}
    layers = np.empty(35, object)
    for number in range(35):
        layers[number] = {"type": "relu", "name": f"layer{number}"}
    for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        kernel = theirs[f"backbone.{number}.weight"].transpose(2, 3, 1, 0)
        layers[number] = _layer("conv", kernel, theirs[f"backbone.{number}.bias"][:, None])
    assignment = theirs["netvlad.score_proj.weight"][:, :, 0].T  # (D, K)
    layers[30] = _layer("custom", assignment[None, None], -theirs["netvlad.centers"][None, None])
    layers[33] = _layer("conv", theirs["whiten.weight"].T[None, None], theirs["whiten.bias"][:, None])
    mean = np.broadcast_to(AVERAGE_IMAGE, (4, 4, 3))
    path = folder / f"{name}.mat"
    savemat(path, {"net": {"layers": layers, "meta": {"normalization": {"averageImage": mean}}}})
    return path


def _layer(kind: str, first: np.ndarray, second: np.ndarray) -> dict[str, object]:
    weights = np.empty(2, object)
    weights[0], weights[1] = first, second
    return {"type": kind, "weights": weights}


def openibl(folder: Path, name: str) -> Path:
    """The release: a flat state dict."""
    path = folder / f"{name}.pth"
    torch.save(state(name), path)
    return path


def openibl_training(folder: Path, name: str) -> Path:
    """A checkpoint of its training: wrapped as a whole, and without the whitening, which is learnt afterwards."""
    theirs = {f"module.{key}": value for key, value in state(name).items() if not key.startswith("pca_layer")}
    path = folder / f"{name}_training.pth.tar"
    torch.save({"state_dict": theirs, "epoch": 4, "best_recall5": 0.96}, path)
    return path


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


def caffe(images: np.ndarray) -> Tensor:
    """As SFRS takes pixels."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    return (pixels - CAFFE) / 0.00392156862745098


def centred(images: np.ndarray) -> Tensor:
    """As MatConvNet takes pixels: 0 to 255, less a mean colour."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).double() - torch.from_numpy(AVERAGE_IMAGE)[:, None, None]


# ---- Nanne ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(dtype: str, tmp_path_factory: pytest.TempPathFactory) -> VLADMethod:
    path = nanne_parallel(tmp_path_factory.mktemp("nanne"), "netvlad_nanne_K8")
    return load_method("netvlad", path, dtype=dtype)  # type: ignore[return-value]


@pytest.mark.parametrize("size", ["240x320", "250x333"])
def test_nannes_descriptors_maps_and_assignments(small: VLADMethod, dtype: str, size: str) -> None:
    _agrees_with_nanne(small, "netvlad_nanne_K8", size, dtype, every=1)


def test_nannes_64_clusters(tmp_path: Path, dtype: str) -> None:
    path = nanne(tmp_path, "netvlad_nanne_K64")
    method = load_method("netvlad", path, dtype=dtype)
    assert (method.dim, method.image_size) == (32768, None)
    _agrees_with_nanne(method, "netvlad_nanne_K64", "240x320", dtype, every=9)  # type: ignore[arg-type]


def _agrees_with_nanne(method: VLADMethod, name: str, size: str, dtype: str, every: int) -> None:
    golden = arrays(name)
    height, width = map(int, size.split("x"))
    count = IMAGES[dtype]
    images = normalised(scenes(4, height, width, golden[f"{size}_images_sha256"]))[:count]
    ours, maps = with_maps(method, images)
    ours = ours[:, ::every]
    shares = method.network.pool.assign(maps)[1].detach()
    assert tuple(maps.shape[1:]) == tuple(golden[f"{size}_feature_map_shape"][1:])
    sample = torch.from_numpy(golden[f"{size}_feature_map_sample"])[:count]
    assert (maps[:, ::16, ::3, ::3].double() - sample).abs().max() < DESCRIPTOR[dtype] * sample.abs().max()
    assert lengths(shares.mean(dim=(2, 3)), golden[f"{size}_assignment_mean"][:count]) < DESCRIPTOR[dtype]
    assert lengths(ours, golden[f"{size}_descriptors"][:count]) < DESCRIPTOR[dtype]
    assert lengths(ours[:1], golden[f"{size}_descriptors"][1:2]) > 0.1 / every**0.5


def with_maps(method: VLADMethod, images: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors, and the maps of conv5_3 on the way to them."""
    maps: list[Tensor] = []
    hook = method.network.backbone.register_forward_hook(lambda _, __, output: maps.append(output))
    try:
        return described(method, images), maps[0].clone()
    finally:
        hook.remove()


def test_initialisation_from_k_means_centres() -> None:
    golden = arrays("netvlad_nanne_init")
    clusters, channels = golden["clusters"].shape
    layer = NetVLAD(clusters, channels).double()
    alpha = layer.initialise(torch.from_numpy(golden["clusters"]), torch.from_numpy(golden["train_descriptors"]))
    assert alpha == pytest.approx(float(golden["alpha"]), rel=1e-9)
    assert np.allclose(layer.conv.weight.detach(), golden["conv_weight"], rtol=1e-9, atol=1e-12)
    assert np.allclose(layer.centroids.detach(), golden["centroids"], rtol=1e-9, atol=1e-12)


# ---- the first authors' file ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matlab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matconvnet(tmp_path_factory.mktemp("matconvnet"), "netvlad_hloc_K8")


@pytest.fixture(scope="module")
def whitened(matlab: Path, dtype: str) -> VLADMethod:
    return load_method("netvlad", matlab, dtype=dtype)  # type: ignore[return-value]


@pytest.mark.parametrize("size", ["240x320", "250x333"])
def test_the_matlab_file_whitened_and_not(whitened: VLADMethod, matlab: Path, dtype: str, size: str) -> None:
    golden = arrays("netvlad_hloc_K8")
    height, width = map(int, size.split("x"))
    images = scenes(4, height, width, golden[f"{size}_images_sha256"])
    count = IMAGES[dtype]
    ours, maps = with_maps(whitened, centred(images[:count]))
    assert whitened.dim == 4096
    assert lengths(ours, golden[f"{size}_whitened"][:count]) < DESCRIPTOR[dtype]
    assert lengths(ours[:1], golden[f"{size}_whitened"][1:2]) > 0.1
    bare = whitened.network.pool(maps).detach()
    assert lengths(bare, golden[f"{size}_unwhitened_D_major"][:count]) < DESCRIPTOR[dtype]


def test_the_matlab_file_without_its_whitening(matlab: Path) -> None:
    golden = arrays("netvlad_hloc_K8")
    images = centred(scenes(4, 240, 320, golden["240x320_images_sha256"])[:1])
    bare = load_method("netvlad", matlab, whitening=False)
    assert lengths(described(bare, images), golden["240x320_unwhitened_D_major"][:1]) < DESCRIPTOR["float32"]
    assert bare.preprocessing.endswith("; not whitened")


def test_the_mean_colour_comes_from_the_matlab_file(whitened: VLADMethod) -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    assert np.allclose(whitened.preprocess(image)[:, 0, 0], 200 - AVERAGE_IMAGE, atol=1e-4)


def test_a_shortened_descriptor_is_the_beginning_at_unit_length(matlab: Path, whitened: VLADMethod) -> None:
    images = centred(seeded_images(1, 64, 64))
    short = load_method("netvlad", matlab, dtype=whitened.settings.dtype, shorten_to=128)
    expected = torch.nn.functional.normalize(described(whitened, images)[:, :128], dim=1)
    assert short.dim == 128 and torch.allclose(described(short, images), expected, atol=1e-6)


# ---- SFRS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sfrs(dtype: str, tmp_path_factory: pytest.TempPathFactory) -> VLADMethod:
    path = openibl(tmp_path_factory.mktemp("openibl"), "sfrs_K8_pca64")
    return load_method("sfrs", path, dtype=dtype)  # type: ignore[return-value]


@pytest.mark.parametrize(("size", "count"), [("240x320", 4), ("480x640", 2)])
def test_sfrs_descriptors_before_and_after_whitening(sfrs: VLADMethod, dtype: str, size: str, count: int) -> None:
    golden = arrays("sfrs_K8_pca64")
    height, width = map(int, size.split("x"))
    images = scenes(count, height, width, golden[f"{size}_images_sha256"])
    count = min(count, IMAGES[dtype])
    theirs = {name: golden[f"{size}_{name}"][:count] for name in ("maxpool_conv5", "vlad_no_pca", "descriptors_pca64")}
    ours, maps = with_maps(sfrs, caffe(images[:count]))
    scale = float(np.linalg.norm(theirs["maxpool_conv5"], axis=1).max())
    assert lengths(maps.amax(dim=(2, 3)), theirs["maxpool_conv5"]) < DESCRIPTOR[dtype] * scale
    assert lengths(sfrs.network.pool(maps).detach(), theirs["vlad_no_pca"]) < DESCRIPTOR[dtype]
    assert lengths(ours, theirs["descriptors_pca64"]) < DESCRIPTOR[dtype]
    assert lengths(ours[:1], golden[f"{size}_descriptors_pca64"][1:2]) > 0.1


def test_sfrs_pixels_and_size(sfrs: VLADMethod) -> None:
    image = scenes(2, 480, 640, arrays("sfrs_K8_pca64")["480x640_images_sha256"])[0]
    assert sfrs.image_size == (480, 640) and sfrs.dim == 64
    assert (torch.from_numpy(sfrs.preprocess(image)) - caffe(image[None])[0]).abs().max() < 1e-4


def test_sfrs_nine_regions(dtype: str, tmp_path: Path) -> None:
    """The network of its training, from a checkpoint of its training: it has no whitening."""
    golden = arrays("sfrs_K8_pca64")
    method = load_method("sfrs", openibl_training(tmp_path, "sfrs_K8_pca64"), dtype=dtype)
    assert isinstance(method, VLADMethod) and method.dim == 4096
    images = scenes(4, 224, 320, golden["regions_images_sha256"])[: max(2, IMAGES[dtype])]
    with torch.inference_mode():
        maps = method.network.backbone(caffe(images).to(getattr(torch, dtype)))
        regions = method.network.pool.regions(maps)  # (4, 9, K C)
    anchor, others = regions[:1], regions[1:]
    assert lengths(anchor[0, :, ::16], golden["regions_vlad_anchor_every16"][0, 0]) < DESCRIPTOR[dtype]
    flat = golden["regions_vlad_others_every16"][0, : len(others)].reshape(9 * len(others), -1)
    assert lengths(others.flatten(0, 1)[:, ::16], flat) < DESCRIPTOR[dtype]
    score = anchor[0] @ others.transpose(1, 2)  # (3, 9, 9)
    assert (score.double() - torch.from_numpy(golden["regions_score"][0, : len(others)])).abs().max() < DESCRIPTOR[
        dtype
    ]

"""SALAD, BoQ, MegaLoc and TransVPR as methods: their files, settings and sizes."""

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cricavpr.errors import InputError, WeightsError
from cricavpr.methods import METHODS, load_method
from cricavpr.methods.base import Method, TwoStageMethod
from cricavpr.methods.families import TorchMethod
from cricavpr.models.registry import KNOWN
from cricavpr.models.weights import convert
from tests.golden.rebuilt import described

from .small_files import SMALL, small_file, small_network, small_state

SIDES = {"salad": 28, "megaloc": 28, "boq": 28, "boq-resnet50": 32, "transvpr": 32}  # pixels
READ = {  # entries off which sizes are read
    "salad": [
        "backbone.model.pos_embed",
        "backbone.model.patch_embed.proj.weight",
        "aggregator.score.3.weight",
        "aggregator.cluster_features.3.weight",
        "aggregator.token_features.2.weight",
    ],
    "megaloc": [
        "backbone.pos_embed",
        "backbone.cls_token",
        "aggregator.agg.score.3.weight",
        "aggregator.linear.weight",
    ],
    "boq": [
        "backbone.dino.pos_embed",
        "aggregator.norm_input.weight",
        "aggregator.fc.bias",
        "aggregator.boqs.0.queries",
    ],
    "boq-resnet50": ["aggregator.norm_input.weight", "aggregator.fc.bias", "aggregator.proj_c.weight"],
    "transvpr": [
        "conv1.0.bias",
        "tokenizer4.conv_layer.bias",
        "transformer.blocks.0.linear1.bias",
        "pool.fc.1.bias",
        "pool.attention_pool.weight",
    ],
}
METHOD = pytest.mark.parametrize("name", list(SMALL))


def images(name: str, count: int = 3, side: int | None = None) -> np.ndarray:
    side = side or SIDES[name]
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3)).numpy()


@METHOD
def test_the_sizes_are_read_off_the_file(name: str, tmp_path: Path) -> None:
    method = load_method(name, small_file(name, tmp_path), image_size=(SIDES[name], SIDES[name]))
    network = small_network(name)
    assert isinstance(method, Method) and isinstance(method, TorchMethod)
    assert method.dim == network.dim and not method.correlates
    assert isinstance(method, TwoStageMethod) == (name == "transvpr")
    with torch.inference_mode():
        assert np.array_equal(method.describe(images(name)), network(torch.from_numpy(images(name))))


@METHOD
def test_a_descriptor_is_of_unit_length_and_does_not_depend_on_the_others(name: str, tmp_path: Path) -> None:
    method = load_method(name, small_file(name, tmp_path), dtype="float64")
    together = described(method, torch.from_numpy(images(name)), [2, 1])
    alone = torch.cat([described(method, torch.from_numpy(image[None])) for image in images(name)])
    assert together.dtype == torch.float64 and method.preprocessing.endswith("; float64")
    assert (together - alone).abs().max() < 1e-12
    assert (together.norm(dim=1) - 1).abs().max() < 1e-12
    assert (together[0] - together[1]).norm() > 1e-4
    assert np.array_equal(method.describe(images(name), [2, 1]), together.float().numpy())


@METHOD
def test_wrappers_and_counters_around_the_weights_change_nothing(name: str, tmp_path: Path) -> None:
    plain = small_state(name)
    counters = {key.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for key in plain if "mean" in key}
    wrapped = {"module." + key: value for key, value in {**plain, **counters}.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "recalls": [90.0]}, tmp_path / "wrapped.pth")
    convert(tmp_path / "wrapped.pth", tmp_path / "same.safetensors")
    methods = [
        load_method(name, path)
        for path in (small_file(name, tmp_path), tmp_path / "wrapped.pth", tmp_path / "same.safetensors")
    ]
    first, *others = (method.describe(images(name)) for method in methods)
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(("name", "entry"), [(name, entry) for name, entries in READ.items() for entry in entries])
def test_a_missing_or_misshapen_entry_that_tells_a_size_is_named(name: str, entry: str, tmp_path: Path) -> None:
    own = next(reversed(SMALL[name][2]({entry: torch.zeros(1, 1, 1)})))  # as it is called here
    for damage in (None, torch.zeros(3, 2), torch.zeros(0)):
        with pytest.raises(WeightsError) as error:
            load_method(name, small_file(name, tmp_path, **{entry: damage}))
        assert own in str(error.value)


@METHOD
def test_one_entry_missing_extra_misshapen_or_not_finite_is_refused_by_name(name: str, tmp_path: Path) -> None:
    state = small_state(name)
    for entry in (list(state)[-1], list(state)[len(state) // 2]):
        own = next(reversed(SMALL[name][2]({entry: torch.zeros(1, 1, 1)})))
        wrong = torch.zeros(*state[entry].shape, 2)
        for changes, named in (
            ({entry: None}, f"1 missing: {own}"),
            ({"surprise.weight": torch.zeros(2)}, "1 unexpected: surprise.weight"),
            ({entry: wrong}, f"{own} (file {'x'.join(map(str, wrong.shape))}, network"),
            ({entry: torch.full_like(state[entry], torch.nan)}, entry),
        ):
            with pytest.raises(WeightsError) as error:
                load_method(name, small_file(name, tmp_path, **changes))
            assert named in str(error.value)


@METHOD
def test_two_entries_for_one_weight_are_refused(name: str, tmp_path: Path) -> None:
    state = small_state(name)
    entry = next(theirs for theirs in state if next(reversed(SMALL[name][2]({theirs: torch.zeros(1)}))) != theirs)
    own = next(reversed(SMALL[name][2]({entry: torch.zeros(1)})))
    with pytest.raises(WeightsError, match="would both be renamed to"):
        load_method(name, small_file(name, tmp_path, **{own: state[entry]}))


def test_a_file_of_another_method_is_refused_and_nothing_is_built(tmp_path: Path) -> None:
    for name in SMALL:
        for other in SMALL:
            if name != other:
                with pytest.raises(WeightsError):
                    load_method(name, small_file(other, tmp_path))


def test_a_file_that_claims_a_giant_network_is_refused_before_any_memory_is_taken(tmp_path: Path) -> None:
    huge = torch.zeros(1, 2, 64_000)  # would be a transformer of 49 billion values per layer
    with pytest.raises(WeightsError, match="of another shape"):
        load_method("salad", small_file("salad", tmp_path, **{"backbone.model.pos_embed": huge}))


@METHOD
def test_an_unknown_setting_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown setting 'imagesize' of {name}. Did you mean 'image_size'"):
        load_method(name, "random:0", imagesize=(28, 28))
    with pytest.raises(InputError, match="float32"):
        load_method(name, "random:0", dtype="float16")
    with pytest.raises(InputError, match="random:0"):
        load_method(name, "random:seed")


@pytest.mark.parametrize("name", ["salad", "megaloc", "boq", "transvpr"])
def test_an_image_size_in_broken_patches_is_answered_with_one_in_whole_patches(name: str, tmp_path: Path) -> None:
    nearest = "320 x 240" if name == "transvpr" else "322 x 238"
    with pytest.raises(InputError) as error:
        load_method(name, small_file(name, tmp_path), image_size=(319, 241))
    assert nearest in str(error.value)


@pytest.mark.parametrize(
    ("name", "size", "way"),
    [
        ("salad", (322, 322), "size 322x322, resize pil,"),
        ("boq", (322, 322), "size 322x322, resize tensor_bicubic,"),
        ("boq-resnet50", (384, 384), "size 384x384, resize tensor_bicubic,"),
        ("megaloc", None, "size native to the nearest multiple of 14, resize tensor,"),
        ("transvpr", (480, 640), "size 480x640, resize tensor_no_antialias,"),
    ],
)
def test_the_authors_sizes_and_ways_are_the_defaults_and_are_told(
    name: str, size: tuple[int, int] | None, way: str, tmp_path: Path
) -> None:
    method = load_method(name, small_file(name, tmp_path))
    assert method.image_size == size and way in method.preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    ready = method.preprocess(pixels)
    assert tuple(ready.shape) == (3, *(size or (98, 154)))
    assert not inspect.ismethod(method.preprocess)
    assert np.array_equal(pickle.loads(pickle.dumps(method.preprocess))(pixels), ready)
    other = load_method(name, small_file(name, tmp_path), image_size=(224, 448))
    assert other.image_size == (224, 448) and "size 224x448" in other.preprocessing


def test_a_size_of_ones_own_for_megaloc_needs_no_rounding(tmp_path: Path) -> None:
    method = load_method("megaloc", small_file("megaloc", tmp_path), image_size=(28, 42))
    assert "nearest multiple" not in method.preprocessing
    assert method.preprocess(np.zeros((50, 60, 3), np.uint8)).shape == (3, 28, 42)


def test_a_boq_on_another_backbone_is_sent_to_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has the backbone resnet50.*Load it as 'boq-resnet50'"):
        load_method("boq", small_file("boq-resnet50", tmp_path))
    with pytest.raises(WeightsError, match=r"has the backbone dinov2.*Load it as 'boq'"):
        load_method("boq-resnet50", small_file("boq", tmp_path))


def test_megaloc_takes_a_file_with_a_mask_token_too(tmp_path: Path) -> None:
    with_token = small_file("megaloc", tmp_path, **{"backbone.mask_token": torch.ones(1, 64)})
    assert load_method("megaloc", with_token).dim == 20
    misshapen = small_file("megaloc", tmp_path, **{"backbone.mask_token": torch.ones(1, 65)})
    with pytest.raises(WeightsError, match="mask_token"):
        load_method("megaloc", misshapen)


def test_random_weights_have_the_published_size_and_follow_the_seed() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (load_method("transvpr", f"random:{seed}") for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (first.dim, first.weights) == (256, "random:0")
    assert np.array_equal(first.describe(images("transvpr")), second.describe(images("transvpr")))
    assert not np.array_equal(first.describe(images("transvpr")), other.describe(images("transvpr")))


@METHOD
def test_the_default_weights_are_known_by_name(name: str) -> None:
    assert METHODS[name].default_weights in KNOWN

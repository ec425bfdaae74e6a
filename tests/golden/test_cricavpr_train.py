"""Our training step against the authors': loss, gradients, batch norm's statistics and three steps of Adam.

Everything goes through the pieces that `cricavpr train` uses: network, start of the adapters, loss, optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from cricavpr.models.cricavpr import CricaVPR, from_authors_names, parameter_counts
from cricavpr.models.weights import load_strictly
from cricavpr.training.learning import make_optimizer
from cricavpr.training.losses import make_loss
from cricavpr.training.network import build_network, start_adapters_as_authors
from cricavpr.training.recipe import Network, Optimizer, Step
from tests.training.toy import as_trained, describe

from .rebuilt import arrays, lengths, normalised, state

NETWORK = Network(dropout=0.0, init="default")
STEP = Step(places=2, images_per_place=4, members="in_order")
VARIANTS = ("cricavpr_train", "cricavpr_train_official_adapter_init")
GRADIENT = {torch.float64: 1e-5, torch.float32: 1e-3}  # relative; see the golden files' tolerances
LOSS = {torch.float64: 1e-6, torch.float32: 1e-5}
DESCRIPTOR = {torch.float64: 1e-5, torch.float32: 1e-4}


@dataclass
class Training:
    """The first step of a variant, up to its gradients."""

    golden: dict[str, np.ndarray]
    model: CricaVPR
    images: Tensor
    places: Tensor
    loss: Tensor
    descriptors: Tensor

    def named(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Parameters that learn, under the authors' names and in their order."""
        ours = dict(self.model.named_parameters())
        for theirs in self.golden["trainable_names"].tolist():
            (name,) = from_authors_names({theirs: torch.empty(0)})
            yield theirs, ours[name]

    def again(self) -> float:
        """The loss with the weights of now, and its gradients in place of the last ones."""
        self.model.zero_grad(set_to_none=True)
        loss, _ = loss_and_gradients(self.model, self.images, self.places)
        return loss.item()


def loss_and_gradients(model: CricaVPR, images: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    with sdpa_kernel(SDPBackend.MATH):
        descriptors, _ = describe(as_trained(model), images, 0, STEP)
        loss, _ = make_loss("multi_similarity", 0, [])(descriptors, places)
        loss.backward()
    return loss.detach(), descriptors.detach()


def first_step(variant: str, dtype: torch.dtype) -> Training:
    golden = arrays(variant)
    model = build_network(NETWORK, seed=0).to(dtype)
    load_strictly(model, from_authors_names(state("cricavpr_train")), "golden")
    if variant.endswith("adapter_init"):
        start_adapters_as_authors(model)
    shared = arrays("cricavpr_train")  # both variants see the same images
    images, places = normalised(shared["images"]).to(dtype), torch.from_numpy(shared["labels"])
    return Training(golden, model, images, places, *loss_and_gradients(model, images, places))


def check_first_step(training: Training, dtype: torch.dtype) -> None:
    golden = training.golden
    assert abs(training.loss.item() - golden["losses"][0]) < LOSS[dtype]
    assert lengths(training.descriptors[:, ::7], golden["descriptors_train_mode"]) < DESCRIPTOR[dtype]
    check_gradients(training, GRADIENT[dtype])
    state = training.model.state_dict()
    for key in (key for key in golden if key.startswith("bn_")):
        (name,) = from_authors_names({key.removeprefix("bn_"): torch.empty(0)})
        torch.testing.assert_close(state[name].double(), torch.from_numpy(golden[key]), rtol=GRADIENT[dtype], atol=1e-6)


def check_gradients(training: Training, relative: float) -> None:
    # A bias before batch norm has no gradient but rounding, which nothing is left of beside the largest.
    floor = relative * 1e-5 * training.golden["grad_norms"].max()
    for row, (name, parameter) in enumerate(training.named()):
        theirs = training.golden["grad_norms"][row]
        ours = 0.0 if parameter.grad is None else parameter.grad.norm().item()
        assert abs(ours - theirs) <= relative * theirs + floor, (name, ours, theirs)
        if parameter.grad is not None:
            first = parameter.grad.flatten()[:4].double().numpy()
            wanted = training.golden["grad_first4"][row][: len(first)]
            np.testing.assert_allclose(first, wanted, rtol=10 * relative, atol=relative * theirs + floor, err_msg=name)


@pytest.fixture(scope="module")
def training() -> Training:
    return first_step("cricavpr_train", torch.float32)


def test_what_learns_is_what_the_authors_train(training: Training) -> None:
    ours = {id(p) for p in training.model.parameters() if p.requires_grad}
    assert {id(parameter) for _, parameter in training.named()} == ours
    counts = parameter_counts(training.model)
    assert counts["tunable"] == int(training.golden["trainable_param_count"])
    assert counts["total"] == int(training.golden["total_param_count"])


def test_the_first_step_is_the_authors_in_float32(training: Training) -> None:
    check_first_step(training, torch.float32)


def test_what_does_not_learn_gets_no_gradient(training: Training) -> None:
    assert all(p.grad is None for p in training.model.parameters() if not p.requires_grad)


def test_the_authors_start_leaves_the_frozen_backbone_as_it_was(training: Training) -> None:
    """The up-projection is zero, so adapters change nothing yet."""
    small = build_network(Network(backbone="nano", encoder_heads=4, encoder_ffn=64), seed=1)
    none = build_network(Network(backbone="nano", adapter="none", encoder_heads=4, encoder_ffn=64), seed=1)
    none.load_state_dict({n: t for n, t in small.state_dict().items() if ".adapter." not in n})
    images = torch.randn(2, 3, 42, 42, generator=torch.Generator().manual_seed(0))
    assert torch.equal(small.eval()(images), none.eval()(images))
    convolutions = [p for n, p in small.named_parameters() if ".mixer." in n and ".conv." in n]
    assert convolutions and all((p == 1e-5).all() for p in convolutions)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "rate", "losses"),
    [(VARIANTS[0], 1e-4, "losses"), (VARIANTS[1], 1e-4, "losses"), (VARIANTS[0], 1e-6, "losses_lr1e-6")],
)
def test_three_steps_of_adam_are_the_authors_in_float64(variant: str, rate: float, losses: str) -> None:
    training = first_step(variant, torch.float64)
    check_first_step(training, torch.float64)
    before = [parameter.detach().clone() for _, parameter in training.named()]
    optimizer = make_optimizer(training.model.named_parameters(), Optimizer(rate=rate))
    seen = [training.loss.item()]
    for _ in range(3):
        optimizer.step()
        seen.append(training.again())
    np.testing.assert_allclose(seen, training.golden[losses], atol=1e-6)
    if rate == 1e-4:
        change = [(p.detach() - old).norm().item() for (_, p), old in zip(training.named(), before, strict=True)]
        np.testing.assert_allclose(change, training.golden["total_change_norm_per_param"], rtol=1e-2, atol=1e-9)

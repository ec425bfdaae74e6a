"""Figure of the descriptors of several places in two dimensions, by scikit-learn's t-SNE (Supplementary Figure 1).

Places differ in colour and marker, so that the figure can also be read in black and white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.datasets.places import PhotoPlaces
from cricavpr.describing import Report, describe
from cricavpr.errors import InputError
from cricavpr.extras import extra
from cricavpr.grouping import Grouping
from cricavpr.methods.base import Method
from cricavpr.plotting import STYLES, Figure, looks, new_figure

PLACES, IMAGES = 36, 12
SEED = 0


@dataclass(frozen=True, eq=False)
class Embedded:
    """One panel of the figure: the t-SNE points of one method.

    Attributes:
        title: title of the panel.
        points: (N, 2) coordinates from t-SNE, without unit.
        places: (N,) place number of each point, counted from 0.
        apart: fraction of descriptors whose nearest neighbour (before t-SNE) shows the same place.
    """

    title: str
    points: NDArray[np.float64] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    apart: float


def drawn_places(dataset: PhotoPlaces, places: int = PLACES, images: int = IMAGES, seed: int = SEED) -> ImageSet:
    """Choose random places, and random images of each place. The key of a returned image is its place.

    Args:
        places: number of places to choose.
        images: number of images per place. Places with fewer images are not chosen.
        seed: seed of the random choice.

    Raises:
        InputError: fewer than `places` places have enough images.
    """
    enough = [place for place in dataset.places if len(place.images) >= images]
    if len(enough) < places:
        raise InputError(
            f"expected at least {places} places with {images} images each, got {len(enough)} in {dataset.name}. Give "
            "more data, or ask for fewer places or images."
        )
    generator = np.random.default_rng(seed)
    names, keys = [], []
    for number in sorted(generator.permutation(len(enough))[:places].tolist()):
        place = enough[number]
        for image in sorted(generator.permutation(len(place.images))[:images].tolist()):
            names.append(str(place.images[image]))
            keys.append(str(place.id))
    return ImageSet(dataset.root, tuple(names), keys=tuple(keys))


def embed(
    method: Method,
    images: ImageSet,
    grouping: Grouping,
    title: str,
    *,
    workers: int | None = None,
    progress: bool | Report = False,
) -> Embedded:
    """Describe images and compute the t-SNE of their descriptors, always with the same seed.

    Args:
        images: images whose keys are their places, from `drawn_places`.
        grouping: which images are described together.
        title: title of the panel.

    Raises:
        InputError: as for `describe`, or an image cannot be described.
        MissingExtraError: scikit-learn is not installed.
    """
    with extra("report", "the map of descriptors"):
        from sklearn.manifold import TSNE
    described = describe(method, images, grouping, workers=workers, progress=progress)
    if described.problems:
        problem = described.problems[0]
        raise InputError(
            f"{problem.name} cannot be described ({problem.reason}). Remove this photo, or choose other places."
        )
    assert images.keys is not None
    numbers = {key: number for number, key in enumerate(dict.fromkeys(images.keys))}
    places = np.array([numbers[key] for key in images.keys])
    vectors = np.asarray(described.descriptors.vectors)
    points = TSNE(
        n_components=2, perplexity=min(30.0, (len(vectors) - 1) / 3), metric="cosine", init="random", random_state=SEED
    ).fit_transform(vectors)
    return Embedded(title, np.asarray(points, np.float64), places, neighbours(vectors, places))


def neighbours(vectors: NDArray[np.float32], places: NDArray[np.int64]) -> float:  # (N, D), (N,)
    """Return the fraction of descriptors whose nearest other descriptor is of the same place.

    Example:
        >>> neighbours(np.float32([[1, 0], [0.9, 0.1], [0, 1]]), np.array([0, 0, 1]))
        0.6666666666666666
    """
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return float((places[scores.argmax(axis=1)] == places).mean())


def draw(panels: Sequence[Embedded]) -> Figure:
    """Draw the panels of points side by side."""
    figure, axes = new_figure(3.5 * len(panels), 3.8, 1, len(panels))
    markers = "os^DvPX<>ph*"
    with looks():
        for place, panel in zip(axes, panels, strict=True):
            for number in range(int(panel.places.max()) + 1):
                x, y = panel.points[panel.places == number].T
                colour = STYLES[number % len(STYLES)].color
                place.scatter(
                    x, y, s=13, c=colour, marker=markers[number % len(markers)], edgecolors="black", linewidths=0.25
                )
            place.set(xticks=[], yticks=[], title=panel.title)
            place.set_xlabel(f"nearest neighbour is of the same place: {100 * panel.apart:.1f} %", fontsize=8)
            place.grid(False)
            for spine in place.spines.values():
                spine.set_visible(True)
    return figure

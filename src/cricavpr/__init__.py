"""CricaVPR: visual place recognition, which finds where photos were taken.

Importing this package is fast, because each public name is only imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # instead of `typing.TYPE_CHECKING`, because importing `typing` would make the start slower
if TYPE_CHECKING:
    from typing import Any

    from cricavpr.datasets import open_dataset as open_dataset
    from cricavpr.datasets.base import EvalDataset as EvalDataset
    from cricavpr.datasets.base import ImageSet as ImageSet
    from cricavpr.datasets.photos import read_photos as read_photos
    from cricavpr.describing import describe as describe
    from cricavpr.descriptors import DescriptorSet as DescriptorSet
    from cricavpr.errors import CricaVPRError as CricaVPRError
    from cricavpr.evaluation.compare import Comparison as Comparison
    from cricavpr.evaluation.compare import compare as compare
    from cricavpr.evaluation.evaluate import EvalResult as EvalResult
    from cricavpr.evaluation.evaluate import evaluate as evaluate
    from cricavpr.evaluation.evaluate import evaluate_protocol as evaluate_protocol
    from cricavpr.geo import LatLon as LatLon
    from cricavpr.geo import Positions as Positions
    from cricavpr.grouping import Grouping as Grouping
    from cricavpr.index import open_index as open_index
    from cricavpr.index.place_index import PlaceIndex as PlaceIndex
    from cricavpr.indexing import build_index as build_index
    from cricavpr.locate import LocationEstimate as LocationEstimate
    from cricavpr.locate import Locator as Locator
    from cricavpr.methods import load_method as load_method
    from cricavpr.models.cricavpr import CricaVPR as CricaVPR
    from cricavpr.pca import Pca as Pca
    from cricavpr.pca import fit_pca as fit_pca

    __version__: str

_HOMES = {
    "CricaVPR": "models.cricavpr",
    "Comparison": "evaluation.compare",
    "CricaVPRError": "errors",
    "DescriptorSet": "descriptors",
    "EvalDataset": "datasets.base",
    "EvalResult": "evaluation.evaluate",
    "Grouping": "grouping",
    "ImageSet": "datasets.base",
    "LatLon": "geo",
    "LocationEstimate": "locate",
    "Locator": "locate",
    "Pca": "pca",
    "PlaceIndex": "index.place_index",
    "Positions": "geo",
    "build_index": "indexing",
    "compare": "evaluation.compare",
    "describe": "describing",
    "evaluate": "evaluation.evaluate",
    "evaluate_protocol": "evaluation.evaluate",
    "fit_pca": "pca",
    "load_method": "methods",
    "open_dataset": "datasets",
    "open_index": "index",
    "read_photos": "datasets.photos",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cricavpr")
    if name not in _HOMES:
        raise AttributeError(f"module 'cricavpr' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"cricavpr.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

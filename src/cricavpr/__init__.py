"""CricaVPR: visual place recognition. Photos in, places out.

Importing does nothing heavy: each public name is brought in when it is first used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

__version__ = version("cricavpr")

_HOMES = {
    "CricaVPRError": "errors",
    "DescriptorSet": "descriptors",
    "EvalDataset": "datasets.base",
    "EvalResult": "evaluation.evaluate",
    "Grouping": "grouping",
    "ImageSet": "datasets.base",
    "LatLon": "geo",
    "LocationEstimate": "locate",
    "Locator": "locate",
    "PlaceIndex": "index.place_index",
    "Positions": "geo",
    "build_index": "indexing",
    "describe": "describing",
    "evaluate": "evaluation.evaluate",
    "load_method": "methods",
    "open_dataset": "datasets",
    "open_index": "index",
    "read_photos": "datasets.photos",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from cricavpr.datasets import open_dataset as open_dataset
    from cricavpr.datasets.base import EvalDataset as EvalDataset
    from cricavpr.datasets.base import ImageSet as ImageSet
    from cricavpr.datasets.photos import read_photos as read_photos
    from cricavpr.describing import describe as describe
    from cricavpr.descriptors import DescriptorSet as DescriptorSet
    from cricavpr.errors import CricaVPRError as CricaVPRError
    from cricavpr.evaluation.evaluate import EvalResult as EvalResult
    from cricavpr.evaluation.evaluate import evaluate as evaluate
    from cricavpr.geo import LatLon as LatLon
    from cricavpr.geo import Positions as Positions
    from cricavpr.grouping import Grouping as Grouping
    from cricavpr.index import open_index as open_index
    from cricavpr.index.place_index import PlaceIndex as PlaceIndex
    from cricavpr.indexing import build_index as build_index
    from cricavpr.locate import LocationEstimate as LocationEstimate
    from cricavpr.locate import Locator as Locator
    from cricavpr.methods import load_method as load_method


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cricavpr' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cricavpr.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Indexing of photos: describe the photos that an index does not have, and add them.

The index may be in a folder or on a server.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import numpy as np

from cricavpr.datasets import open_photos
from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing import describe
from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index import open_index
from cricavpr.index.columns import Photos, photo_ids
from cricavpr.index.manifest import FLOAT32, check_dtype, is_ours
from cricavpr.index.photo_index import Change, PhotoIndex, check_fits
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex, is_remote
from cricavpr.index.writing import refuse_foreign, work_folder
from cricavpr.methods import DEFAULT_METHOD, load_method
from cricavpr.methods.base import Method, made_by
from cricavpr.progress import Progress, Report

Problems = tuple[Problem, ...]


class Settings(TypedDict, total=False):
    """The optional arguments of `build_index`, `add_photos` and `update_photos`.

    Attributes:
        positions: a .csv or .geojson file with the positions of the photos; by default they are read from the photos.
        tags: tags to store with each of these photos; a tag is a non-empty word.
        grouping: which photos a method describes together, if its descriptors depend on other photos; by default each
            photo is described alone.
        batch_size: number of photos that the network processes at a time, 16 by default; it never changes a result.
        workers: number of processes that read photos; by default it is chosen automatically.
        wait_s: how long to wait for another process that uses the index, in seconds; 0 by default.
        progress: True for a progress bar on stderr, or a function that is called with (photos done, photos in all).
        note: a function that is called with each message for the user, such as that a folder of photos has moved.
    """

    positions: Path | None
    tags: Sequence[str]
    grouping: Grouping | str
    batch_size: int
    workers: int | None
    wait_s: float
    progress: bool | Report
    note: Callable[[str], None]


def build_index(
    photos: Path | str | ImageSet,
    to: Path | str,
    method: str | Method = DEFAULT_METHOD,
    *,
    dtype: str = FLOAT32,
    kind: str | None = None,
    **settings: Unpack[Settings],
) -> tuple[PhotoIndex, Problems]:
    """Describe photos and make an index of them.

    If the folder `to` holds an index already, it is replaced as soon as the new index is complete. To resume an
    interrupted build, repeat the call.

    Args:
        photos: an ImageSet, or a folder of photos with positions: in EXIF, in the file `positions`, or as UTM
            coordinates between @ signs in the file names.
        to: the folder of the index, or its address on a server: milvus://host:port/collection.
        method: the name of a method (`cricavpr methods` lists them), or a loaded method.
        dtype: how an index in a folder stores descriptors: float32, or float16 for half the disk space.
        kind: the kind of search of an index on a server: flat (exact, the default), ivf or hnsw.
        settings: see `Settings`.

    Returns:
        The index, and the problems of the photos that could not be used.

    Raises:
        InputError: no photo can be used, the folder `to` holds other files or cannot be written, another process writes
            to the index, or a setting is invalid.

    Example:
        >>> from PIL import Image
        >>> from cricavpr.geo import Positions
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, colour in (("a.png", "red"), ("b.png", "blue")):
        ...     Image.new("RGB", (64, 64), colour).save(folder / name)
        >>> places = Positions.from_latlon([[48.20, 16.37], [48.21, 16.37]])
        >>> index, problems = build_index(ImageSet(folder, ("a.png", "b.png"), places), folder / "index", "pixels")
        >>> len(index), problems
        (2, ())
    """
    job = _Job.of(photos, method, settings)
    if is_remote(to):
        if dtype != FLOAT32:
            raise InputError(
                f"an index on a server stores descriptors as float32, got the dtype {dtype!r}. Leave the dtype out."
            )
        return job.build_on_server(Address.parse(str(to)), kind)
    if kind is not None:
        raise InputError(f"the kind {kind!r} is only for an index on a server. Leave it out for an index in a folder.")
    refuse_foreign(Path(to))
    check_dtype(dtype)
    return job.build_in_folder(Path(to), dtype)


def add_photos(
    index: PhotoIndex | Path | str,
    photos: Path | str | ImageSet,
    method: str | Method = DEFAULT_METHOD,
    **settings: Unpack[Settings],
) -> tuple[Change[PhotoIndex], Problems]:
    """Describe the photos that an index does not have, and add them.

    Args:
        index: an open index, its folder, or its address on a server.
        photos, method: as in `build_index`.
        settings: see `Settings`.

    Returns:
        The change of the index, and the problems of the photos that could not be used.

    Raises:
        MadeByError: the index was made with another method, weights or settings.
        InputError: as `build_index`, or the positions have another coordinate frame than those of the index.

    Example:
        >>> from PIL import Image
        >>> from cricavpr.geo import Positions
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (64, 64), "red").save(folder / "a.png")
        >>> photos = ImageSet(folder, ("a.png",), Positions.from_latlon([[48.20, 16.37]]))
        >>> index, _ = build_index(photos, folder / "index", "pixels")
        >>> change, problems = add_photos(index, photos, "pixels")
        >>> change.added, change.already
        (0, 1)
    """
    job = _Job.of(photos, method, settings)
    opened = open_index(index) if isinstance(index, str | Path) else index
    check_fits(opened, job.made_by)  # before the photos are read
    images, unusable = job.open()
    change, problems = job.add(opened, images)
    return change, (*unusable, *problems)


def update_photos(
    index: PlaceIndex | Path | str,
    photos: Path | str | ImageSet,
    method: str | Method = DEFAULT_METHOD,
    **settings: Unpack[Settings],
) -> tuple[Change[PlaceIndex], Problems]:
    """Describe photos, and replace the photos of an index that they match, by path or by bytes.

    Photos that match none are added. The arguments, results and errors are those of `add_photos`. Tags and times that
    are not given are kept. `PlaceIndex.update` explains which photos match.
    """
    job = _Job.of(photos, method, settings)
    opened = PlaceIndex.open(Path(index)) if isinstance(index, str | Path) else index
    check_fits(opened, job.made_by)
    images, unusable = job.open()
    check_fits(opened, job.made_by, images.positions)
    with work_folder(opened.path, job.named(images), job.wait_s) as folder:
        given, problems = job.describe(images, folder)
        change = opened.update(given, wait_s=job.wait_s)
    for old, new in change.moved:
        job.note(f"{old} has moved to {new}: its photos keep their tags and times")
    return change, (*unusable, *problems)


@dataclass(frozen=True)
class _Job:
    """The checked arguments of one call of `build_index`, `add_photos` or `update_photos`."""

    photos: Path | str | ImageSet
    method: Method
    positions: Path | None = None
    tags: Sequence[str] = ()
    grouping: Grouping = ALONE
    batch_size: int = 16
    workers: int | None = None
    wait_s: float = 0.0
    progress: bool | Report = False
    note: Callable[[str], None] = lambda _: None

    @classmethod
    def of(cls, photos: Path | str | ImageSet, method: str | Method, settings: Settings) -> Self:
        if isinstance(tags := settings.get("tags", ()), str):
            raise InputError(f"tags must be a list of words, got the text {tags!r}. Give [{tags!r}].")
        if not all(tags):
            raise InputError(f"tags must be non-empty words, got {list(settings['tags'])}.")
        checked: dict[str, Any] = {**settings, "grouping": Grouping.parse(settings.get("grouping", ALONE))}
        return cls(photos, load_method(method) if isinstance(method, str) else method, **checked)

    @property
    def made_by(self) -> MadeBy:
        return made_by(self.method, self.grouping)

    def open(self) -> tuple[ImageSet, Problems]:
        """Return the photos that can be used, and the problems of the photos that cannot be used."""
        if isinstance(self.photos, ImageSet):
            return _located(self.photos)
        return open_photos(Path(self.photos), self.positions, need_positions=True, need_times=True)

    def named(self, images: ImageSet) -> str:
        """Return a text that identifies the folder of the photos and the method with its settings."""
        return f"{images.root.absolute()}\0{self.made_by.fingerprint}"

    def build_in_folder(self, to: Path, dtype: str) -> tuple[PlaceIndex, Problems]:
        images, unusable = self.open()
        with work_folder(to, self.named(images), self.wait_s) as folder:
            given, problems = self.describe(images, folder)
            before = _replaced(to)
            index = PlaceIndex.build(given, to, dtype=dtype, wait_s=self.wait_s)
        if before:
            self.note(f"the new index replaces {before}.")
        if len(index) < len(given):
            self.note(f"{len(given) - len(index):,} photos are copies of other photos and are not stored again.")
        return index, (*unusable, *problems)

    def build_on_server(self, address: Address, kind: str | None) -> tuple[PhotoIndex, Problems]:
        """Make an index in a collection of a server, or finish an interrupted build of the same photos."""
        images, unusable = self.open()
        index = RemoteIndex.create_or_open(address, self.made_by, kind)
        there = dict.fromkeys(photo_ids(images.root, images.names))
        if others := len(index) - int(index.contains(list(there)).sum()):
            raise InputError(
                f"{address} holds an index with {others:,} photos that are not among the given photos. To keep those "
                f"photos, run `cricavpr index add {address}` instead, or choose another collection."
            )
        change, problems = self.add(index, images)
        self.note(f"{change.added:,} photos added, {change.already:,} photos in the index already")
        return change.index, (*unusable, *problems)

    def add(self, index: PhotoIndex, images: ImageSet) -> tuple[Change[PhotoIndex], Problems]:
        """Describe the photos that the index does not have, and add them."""
        check_fits(index, self.made_by, images.positions)
        ids = photo_ids(images.root, images.names)
        if index.contains(ids).all():
            return Change(index, already=len(ids)), ()
        with work_folder(_place_to_work(index), self.named(images), self.wait_s) as folder:
            index = index.newest()  # another process may have added the same photos meanwhile
            fresh = ~index.contains(ids)
            already = int((~fresh).sum())
            if not fresh.any():
                return Change(index, already=already), ()
            given, problems = self.describe(images.take(fresh), folder)
            sending = False if isinstance(index, PlaceIndex) else self.progress  # a folder index adds all in one step
            with Progress(sending, len(given)) as bar:
                bar.start(0)
                change = index.add(given, wait_s=self.wait_s, progress=bar.reach)
        return replace(change, already=change.already + already), problems

    def describe(self, images: ImageSet, folder: Path) -> tuple[Photos, Problems]:
        """Describe photos. Finished descriptors are kept in `folder`, so that an interrupted call can be resumed."""
        work: dict[str, Any] = {"batch_size": self.batch_size, "workers": self.workers, "progress": self.progress}
        described = describe(self.method, images, self.grouping, out=folder / "descriptors", **work)
        kept = images.take(described.kept)
        ids = photo_ids(kept.root, kept.names)
        tags = [tuple(self.tags)] * len(kept) if self.tags else None
        photos = Photos(described.descriptors, kept.root, kept.positions, ids, kept.times, tags)
        return photos, described.problems


def _located(images: ImageSet) -> tuple[ImageSet, Problems]:
    """Return the images with a position, and a problem for each other one."""
    known = np.zeros(len(images), bool) if images.positions is None else images.positions.known
    if not known.any():
        raise InputError(f"none of the {len(images):,} photos has a position. Give an ImageSet with positions.")
    missing = tuple(Problem(images.names[row], "position", "has no position") for row in np.flatnonzero(~known))
    return (images.take(known) if missing else images), missing


def _place_to_work(index: PhotoIndex) -> Path:
    """Return the folder for unfinished descriptors.

    It is the folder of the index. For an index on a server, it is a hidden folder in the current folder. If the current
    folder cannot be written, it is in the folder for temporary files.
    """
    if isinstance(index, PlaceIndex):
        return index.path
    name = "".join(letter if letter.isalnum() else "-" for letter in str(index.path))
    here = Path.cwd()
    return (here if os.access(here, os.W_OK) else Path(tempfile.gettempdir())) / f".{name}"


def _replaced(to: Path) -> str:
    """Return a description of the index in `to` that is about to be replaced, or "" if there is none."""
    try:
        count = len(PlaceIndex.open(to))
        return f"the {count:,} photos that were in {to}. Next time, `cricavpr index add` keeps them" if count else ""
    except InputError:  # damaged, or of another release
        there = to.is_dir() and any(is_ours(path.name) for path in to.iterdir())
        return f"an index in {to} that could not be opened" if there else ""

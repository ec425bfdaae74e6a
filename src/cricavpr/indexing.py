"""Index photos: describe those that an index does not have, and add them. The index is in a folder or on a server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

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
from cricavpr.methods import load_method
from cricavpr.methods.base import Method, made_by
from cricavpr.progress import Progress, Report

DEFAULT_METHOD = "cricavpr-tiny"

Problems = tuple[Problem, ...]


class Settings(TypedDict, total=False):
    """The optional arguments of `build_index`, `add_photos` and `update_photos`.

    Attributes:
        positions: a table with the positions of the photos, .csv or .geojson.
        tags: words for all these photos.
        grouping: which photos influence one another, for a method that correlates; each alone by default.
        batch_size: photos in the network at a time, 16 by default; never changes a result.
        workers: processes that read photos; chosen by default.
        wait_s: how long to wait for another process, in seconds; not at all by default.
        progress: True for a bar on stderr, or a function that is called with (photos done, photos in all).
        note: called with each message for the user, such as photos that have moved.
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

    An index in the folder is replaced when the new one is complete. Repeat the call to resume an interrupted build.

    Args:
        photos: a folder of photos with positions (EXIF, a table, or @UTM@ names), or an ImageSet.
        to: the folder of the index, or the address of a server: milvus://host:port/collection.
        method: a name, see `cricavpr methods`, or a loaded method.
        dtype: how a folder stores descriptors: float32, or float16 for half the disk space.
        kind: how a server searches: flat, ivf or hnsw.
        settings: see `Settings`.

    Returns:
        The index, and the photos that could not be used.

    Raises:
        InputError: no usable photos, other files in the folder, another process, or a place that cannot be written.

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
            raise InputError(f"a server stores descriptors as float32, got dtype {dtype!r}. Leave the dtype out.")
        return job.build_on_server(Address.parse(str(to)), kind)
    if kind is not None:
        raise InputError(f"the kind {kind!r} is for the collection of a server. Leave it out for a folder.")
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
        index: an open index, its folder, or its address.
        photos, method: as `build_index`.
        settings: see `Settings`.

    Raises:
        MadeByError: the index holds photos of another method.
        InputError: as `build_index`, or positions of another frame.

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
    """Describe photos, and replace the same ones in an index. Arguments as `add_photos`.

    Tags and times that are not given stay. `PlaceIndex.update` explains which photos are the same.
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
    """The arguments of one call, checked before the first photo is described."""

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
        if not all(settings.get("tags", ())):
            raise InputError(f"tags must be non-empty words, got {list(settings['tags'])}.")
        checked: dict[str, Any] = {**settings, "grouping": Grouping.parse(settings.get("grouping", ALONE))}
        return cls(photos, load_method(method) if isinstance(method, str) else method, **checked)

    @property
    def made_by(self) -> MadeBy:
        return made_by(self.method, self.grouping)

    def open(self) -> tuple[ImageSet, Problems]:
        """Return the photos that can be used, and the problems of the others."""
        if isinstance(self.photos, ImageSet):
            return self.photos, ()
        return open_photos(Path(self.photos), self.positions, need_positions=True, need_times=True)

    def named(self, images: ImageSet) -> str:
        """Return a text that identifies photos and method."""
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
            self.note(f"{len(given) - len(index):,} photos are copies of others and are stored once.")
        return index, (*unusable, *problems)

    def build_on_server(self, address: Address, kind: str | None) -> tuple[PhotoIndex, Problems]:
        """Make a collection, or finish an interrupted one."""
        images, unusable = self.open()
        index = RemoteIndex.create_or_open(address, self.made_by, kind)
        there = dict.fromkeys(photo_ids(images.root, images.names))
        if others := len(index) - int(index.contains(list(there)).sum()):
            raise InputError(
                f"{address} holds {others:,} other photos. Use `cricavpr index add {address}`, or choose another "
                "collection."
            )
        change, problems = self.add(index, images)
        self.note(f"{change.added:,} added, {change.already:,} already there")
        return change.index, (*unusable, *problems)

    def add(self, index: PhotoIndex, images: ImageSet) -> tuple[Change[PhotoIndex], Problems]:
        """Describe and add the photos that the index does not have."""
        check_fits(index, self.made_by, images.positions)
        ids = photo_ids(images.root, images.names)
        if index.contains(ids).all():
            return Change(index, already=len(ids)), ()
        with work_folder(_place_to_work(index), self.named(images), self.wait_s) as folder:
            index = index.newest()  # another process with the same photos may have added them meanwhile
            fresh = ~index.contains(ids)
            already = int((~fresh).sum())
            if not fresh.any():
                return Change(index, already=already), ()
            given, problems = self.describe(images.take(fresh), folder)
            sending = False if isinstance(index, PlaceIndex) else self.progress  # a folder adds them in one step
            with Progress(sending, len(given)) as bar:
                bar.start(0)
                change = index.add(given, wait_s=self.wait_s, progress=bar.reach)
        return replace(change, already=change.already + already), problems

    def describe(self, images: ImageSet, folder: Path) -> tuple[Photos, Problems]:
        """Describe photos; `folder` keeps finished descriptors for the next run."""
        work: dict[str, Any] = {"batch_size": self.batch_size, "workers": self.workers, "progress": self.progress}
        described = describe(self.method, images, self.grouping, out=folder / "descriptors", **work)
        kept = images.take(described.kept)
        ids = photo_ids(kept.root, kept.names)
        tags = [tuple(self.tags)] * len(kept) if self.tags else None
        photos = Photos(described.descriptors, kept.root, kept.positions, ids, kept.times, tags)
        return photos, described.problems


def _place_to_work(index: PhotoIndex) -> Path:
    """Return the folder for unfinished descriptors: that of the index, or one in the current folder for a server."""
    if isinstance(index, PlaceIndex):
        return index.path
    name = "".join(letter if letter.isalnum() else "-" for letter in str(index.path))
    here = Path.cwd()
    return (here if os.access(here, os.W_OK) else Path(tempfile.gettempdir())) / f".{name}"


def _replaced(to: Path) -> str:
    """Return a description of the index that is about to be replaced, or ""."""
    try:
        count = len(PlaceIndex.open(to))
        return f"the {count:,} photos that were in {to}; use `cricavpr index add` to keep them" if count else ""
    except InputError:  # damaged, or of another release
        there = to.is_dir() and any(is_ours(path.name) for path in to.iterdir())
        return f"an index in {to} that could not be opened" if there else ""

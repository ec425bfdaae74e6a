"""Index photos: describe those that an index does not have, and add them. The index is in a folder or on a server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
Note = Callable[[str], None]


def build_index(
    photos: Path | str | ImageSet,
    to: Path | str,
    method: str | Method = DEFAULT_METHOD,
    *,
    positions: Path | None = None,
    tags: Sequence[str] = (),
    grouping: Grouping | str = ALONE,
    batch_size: int = 16,
    workers: int | None = None,
    dtype: str = FLOAT32,
    kind: str | None = None,
    wait_s: float = 0.0,
    progress: bool | Report = False,
    note: Note | None = None,
) -> tuple[PhotoIndex, Problems]:
    """Describe photos and make an index of them.

    An index in the folder is replaced when the new one is complete. Repeat the call to resume an interrupted build.

    Args:
        photos: a folder of photos with positions (EXIF, a table, or @UTM@ names), or an ImageSet.
        to: the folder of the index, or the address of a server: milvus://host:port/collection.
        method: a name, see `cricavpr methods`, or a loaded method.
        positions: a table with the positions of the photos, .csv or .geojson.
        tags: words for all these photos.
        grouping: which photos influence one another, for a method that correlates.
        batch_size: photos in the network at a time; never changes a result.
        workers: processes that read photos; None chooses.
        dtype: how a folder stores descriptors: float32, or float16 for half the disk space.
        kind: how a server searches: flat, ivf or hnsw.
        wait_s: how long to wait for another process, in seconds.
        progress: True for a bar on stderr, or a function that is called with (photos done, photos in all).
        note: called with a line for each thing that a user should know.

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
    job = _Job(method, tuple(tags), Grouping.parse(grouping), batch_size, workers, wait_s, progress, note or _silent)
    if is_remote(to):
        if dtype != FLOAT32:
            raise InputError(f"a server stores descriptors as float32, not {dtype}. Leave the dtype out.")
        return job.build_on_server(Address.parse(str(to)), photos, positions, kind)
    if kind is not None:
        raise InputError(f"the kind {kind!r} is for the collection of a server. Leave it out for a folder.")
    refuse_foreign(Path(to))
    check_dtype(dtype)
    return job.build_in_folder(Path(to), photos, positions, dtype)


def add_photos(
    index: PhotoIndex | Path | str,
    photos: Path | str | ImageSet,
    method: str | Method = DEFAULT_METHOD,
    *,
    positions: Path | None = None,
    tags: Sequence[str] = (),
    grouping: Grouping | str = ALONE,
    batch_size: int = 16,
    workers: int | None = None,
    wait_s: float = 0.0,
    progress: bool | Report = False,
    note: Note | None = None,
) -> tuple[Change[PhotoIndex], Problems]:
    """Describe the photos that an index does not have, and add them. Arguments as `build_index`.

    Args:
        index: an open index, its folder, or its address.

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
    job = _Job(method, tuple(tags), Grouping.parse(grouping), batch_size, workers, wait_s, progress, note or _silent)
    opened = open_index(index) if isinstance(index, str | Path) else index
    check_fits(opened, job.made_by)  # before the photos are looked at
    images, unusable = _opened(photos, positions)
    change, problems = job.add(opened, images)
    return change, (*unusable, *problems)


def update_photos(
    index: PlaceIndex | Path | str,
    photos: Path | str | ImageSet,
    method: str | Method = DEFAULT_METHOD,
    *,
    positions: Path | None = None,
    tags: Sequence[str] = (),
    grouping: Grouping | str = ALONE,
    batch_size: int = 16,
    workers: int | None = None,
    wait_s: float = 0.0,
    progress: bool | Report = False,
    note: Note | None = None,
) -> tuple[Change[PlaceIndex], Problems]:
    """Describe photos, and replace the same ones in an index. Arguments as `add_photos`.

    Tags and times that are not given stay. `PlaceIndex.update` explains which photos are the same.
    """
    job = _Job(method, tuple(tags), Grouping.parse(grouping), batch_size, workers, wait_s, progress, note or _silent)
    opened = PlaceIndex.open(Path(index)) if isinstance(index, str | Path) else index
    check_fits(opened, job.made_by)
    images, unusable = _opened(photos, positions)
    check_fits(opened, job.made_by, images.positions)
    with work_folder(opened.path, job.named(images), wait_s) as folder:
        given, problems = job.describe(images, folder)
        change = opened.update(given, wait_s=wait_s)
    for old, new in change.moved:
        job.note(f"{old} has moved to {new}: its photos keep their tags and times")
    return change, (*unusable, *problems)


def _silent(_: str) -> None:
    pass


def _opened(photos: Path | str | ImageSet, positions: Path | None) -> tuple[ImageSet, Problems]:
    if isinstance(photos, ImageSet):
        return photos, ()
    return open_photos(Path(photos), positions, need_positions=True, need_times=True)


@dataclass(frozen=True)
class _Job:
    """The settings of one call. Whatever can be refused is refused before the first photo is described."""

    wanted: str | Method
    tags: tuple[str, ...]
    grouping: Grouping
    batch_size: int
    workers: int | None
    wait_s: float
    progress: bool | Report
    note: Note

    def __post_init__(self) -> None:
        if not all(self.tags):
            raise InputError(f"tags must be words that are not empty, got {list(self.tags)}.")
        if isinstance(self.wanted, str):
            object.__setattr__(self, "wanted", load_method(self.wanted))

    @property
    def method(self) -> Method:
        assert not isinstance(self.wanted, str)
        return self.wanted

    @property
    def made_by(self) -> MadeBy:
        return made_by(self.method, self.grouping)

    def named(self, images: ImageSet) -> str:
        """Return the name of the work: photos and method."""
        return f"{images.root.absolute()}\0{self.made_by.fingerprint}"

    def build_in_folder(
        self, to: Path, photos: Path | str | ImageSet, positions: Path | None, dtype: str
    ) -> tuple[PlaceIndex, Problems]:
        images, unusable = _opened(photos, positions)
        with work_folder(to, self.named(images), self.wait_s) as folder:
            given, problems = self.describe(images, folder)
            before = _replaced(to)
            index = PlaceIndex.build(given, to, dtype=dtype, wait_s=self.wait_s)
        if before:
            self.note(f"they replace {before}.")
        if len(index) < len(given):
            self.note(f"{len(given) - len(index):,} photos are copies of others and count once.")
        return index, (*unusable, *problems)

    def build_on_server(
        self, address: Address, photos: Path | str | ImageSet, positions: Path | None, kind: str | None
    ) -> tuple[PhotoIndex, Problems]:
        """Make a collection, or go on with one that was interrupted."""
        images, unusable = _opened(photos, positions)
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
        """Describe and add the photos that are not there."""
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
            change: Change[PhotoIndex] = self._send(index, given)
        added = Change(change.index, change.added, change.removed, change.already + already)
        return added, problems

    def _send(self, index: PhotoIndex, given: Photos) -> Change[PhotoIndex]:
        if isinstance(index, PlaceIndex):
            return index.add(given, wait_s=self.wait_s)
        with Progress(self.progress, len(given)) as bar:
            bar.start(0)
            return index.add(given, wait_s=self.wait_s, progress=bar.reach)

    def describe(self, images: ImageSet, folder: Path) -> tuple[Photos, Problems]:
        """Describe photos; `folder` keeps finished descriptors for the next run."""
        described = describe(
            self.method,
            images,
            self.grouping,
            batch_size=self.batch_size,
            workers=self.workers,
            out=folder / "descriptors",
            progress=self.progress,
        )
        kept = images.take(described.kept)
        ids = photo_ids(kept.root, kept.names)
        tags = [self.tags] * len(kept) if self.tags else None
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
    """Return what an index holds that is about to be replaced, or ""."""
    try:
        count = len(PlaceIndex.open(to))
        return f"the {count:,} photos that were in {to}; `cricavpr index add` adds" if count else ""
    except InputError:  # damaged, or of another release
        there = to.is_dir() and any(is_ours(path.name) for path in to.iterdir())
        return f"an index in {to} that could not be opened" if there else ""

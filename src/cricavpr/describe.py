"""describe: a method, images and a grouping in; descriptors out, and a list of the photos that gave none.

Photos are read in worker processes while the network works. A photo that cannot be read is left out of its
group and listed; it never stops a run. With `out` an interrupted run goes on where it stopped, and ends in
the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.descriptors import DescriptorSet, MadeBy, flaws, save_rows
from cricavpr.errors import ImageError, InputError
from cricavpr.files import held_alone, sync, write_text
from cricavpr.grouping import ALONE, Group, Grouping, pack
from cricavpr.images import decode
from cricavpr.methods.base import Method, made_by

if TYPE_CHECKING:
    from torch import Tensor

Report = Callable[[int, int], None]  # images done, images in all
Failures = dict[int, tuple[str, str]]  # index in the ImageSet: stage, reason
Batch = list[Group]

SMALL_SET = 64  # fewer photos than this are read before a worker process would have started
MOST_WORKERS = 8
STATE_EVERY_S = 5.0  # how much work a crash may cost
STATE_FORMAT = "cricavpr.describe.1"


@dataclass(frozen=True, eq=False)
class Described:
    """What `describe` returns.

    Attributes:
        descriptors: of the photos that gave one, in the order of the ImageSet.
        kept: (M,) which images those are: rising indices into the ImageSet.
        problems: the other photos, in the same order.
    """

    descriptors: DescriptorSet
    kept: NDArray[np.int64]
    problems: tuple[Problem, ...]


def describe(
    method: Method,
    images: ImageSet,
    grouping: Grouping = ALONE,
    *,
    batch_size: int = 16,
    workers: int | None = None,
    out: Path | None = None,
    progress: bool | Report = False,
) -> Described:
    """Describe every image that can be read.

    Args:
        grouping: which images see one another; only a method that correlates has any use for it.
        batch_size: images that the hardware takes at once, whole groups each time. Never changes a result.
        workers: processes that read photos; 0 reads them in this one, None chooses.
        out: a file for the descriptors. Work in progress lies beside it and is taken up by the next run.
        progress: True for a bar on stderr, or a function that is told (images done, images in all).

    Raises:
        InputError: no image, none that could be described, a group of images of different sizes, a grouping
            that the set has no keys for, or a place that cannot be written.
    """
    if not len(images):
        raise InputError(f"there are no images in {images.root}. Give at least one.")
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} images is impossible. Give a batch size of 1 or more.")
    made = made_by(method, grouping)
    groups = _groups(method, images, grouping)
    batches = list(pack(groups, batch_size))
    workers = _default_workers(len(images)) if workers is None else workers
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(_Progress(progress, len(images)))
        work: _Work
        if out is None:
            work = _InMemory(len(images), made)
        else:
            mark = f"{_key(images, made, groups)} in batches of {batch_size}"
            work = stack.enter_context(_OnDisk(Path(out), len(images), made, mark, bar.note))
        left = batches[work.done :]
        bar.start(sum(len(group) for batch in batches[: work.done] for group in batch))
        reading = stack.enter_context(contextlib.closing(_load(method, images, left, workers)))
        for batch, loaded in zip(left, reading, strict=True):
            work.batch_done(_describe_batch(method, loaded, work))
            bar.advance(sum(map(len, batch)))
        return _finish(work, images)


def describe_one(method: Method, image: NDArray[np.uint8]) -> NDArray[np.float32]:  # (H, W, 3) -> (D,)
    """Describe one image that sees no other.

    Raises:
        ImageError: the method gives no descriptor for it.
    """
    vector = _vectors(method, method.preprocess(image)[None], None)
    if flaws(vector).any():
        raise ImageError("describe", _flaw(vector[0]))
    return vector.reshape(-1)


def cache_key(method: Method, images: ImageSet, grouping: Grouping = ALONE) -> str:
    """SHA-256 over all that decides the descriptors: names, sizes and times of the photos, method, groups."""
    return _key(images, made_by(method, grouping), _groups(method, images, grouping))


def _key(images: ImageSet, made: MadeBy, groups: Sequence[Group]) -> str:
    digest = hashlib.sha256(STATE_FORMAT.encode())
    digest.update(json.dumps(made.to_dict(), sort_keys=True).encode())
    for index, name in enumerate(images.names):
        size, time_ns = _size_and_time(images.path(index))
        digest.update(os.fsencode(name) + f"\0{size}\0{time_ns}\0".encode())
    for group in groups:
        digest.update(len(group).to_bytes(8, "little") + group.astype("<i8").tobytes())
    return digest.hexdigest()


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return -1, -1  # the photo becomes a Problem when it is read
    return stat.st_size, stat.st_mtime_ns


def _groups(method: Method, images: ImageSet, grouping: Grouping) -> list[Group]:
    """Groups change nothing for a method that does not correlate, so it reads its images in order."""
    return (grouping if method.correlates else ALONE).groups(len(images), images.keys)


# --- the network


def _describe_batch(method: Method, loaded: _Loaded, work: _Work) -> Failures:
    """Describe what was read of a batch and put it away; return what failed."""
    if loaded.refusal:
        raise InputError(loaded.refusal)
    failures = dict(loaded.failures)
    for run in loaded.runs:
        vectors = _vectors(method, run.tensor, run.groups)
        bad = flaws(vectors)
        failures |= {int(run.indices[row]): ("describe", _flaw(vectors[row])) for row in np.flatnonzero(bad)}
        work.put(run.indices, vectors)  # those that failed are left out at the end
    return failures


def _vectors(
    method: Method,
    images: Tensor,  # (B, 3, h, w)
    groups: Sequence[int] | None,
) -> NDArray[np.float32]:  # (B, D)
    import torch

    with torch.inference_mode():
        vectors: NDArray[np.float32] = method.describe(images, groups).float().cpu().numpy()
    if vectors.shape != (len(images), method.dim):
        raise InputError(
            f"method {method.name} gave descriptors of shape {vectors.shape} for {len(images)} images, "
            f"not ({len(images)}, {method.dim}). Its `dim` or its `describe` is wrong."
        )
    return vectors


def _flaw(vector: NDArray[np.float32]) -> str:  # (D,)
    if not np.isfinite(vector).all():
        return "its descriptor is not finite"
    return f"its descriptor has length {np.linalg.norm(vector):.3g} instead of 1"


# --- reading photos, here or in worker processes


@dataclass(frozen=True, eq=False)
class _Run:
    """Images of one size that go through the network together."""

    tensor: Tensor  # (b, 3, h, w)
    groups: list[int] | None  # sizes that add up to b; None where every image is alone
    indices: NDArray[np.int64]  # (b,) into the ImageSet


@dataclass
class _Loaded:
    """One batch, read: normally one run, several where photos keep their own sizes.

    A refusal travels as text: an exception would come back with a worker's traceback in it.
    """

    runs: list[_Run] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)
    refusal: str | None = None


class _Batches:
    """Item i is batch i, read and preprocessed. Small enough to be sent to a worker process.

    A worker gets `preprocess` alone: where that is an object of its own rather than a bound method, the
    network stays behind.
    """

    def __init__(self, method: Method, images: ImageSet, batches: Sequence[Batch]) -> None:
        self.preprocess = method.preprocess
        self.root, self.names = images.root, images.names
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> _Loaded:
        loaded = _Loaded()
        groups: list[list[tuple[int, Tensor]]] = []  # without the photos that failed
        for group in self.batches[number]:
            tensors = [(index, self._read(index, loaded.failures)) for index in group.tolist()]
            groups.append([(index, tensor) for index, tensor in tensors if tensor is not None])
        self._fill(loaded, [group for group in groups if group])
        return loaded

    def _read(self, index: int, failures: Failures) -> Tensor | None:  # (3, h, w)
        stage = "decode"
        try:
            image = decode(self.root / self.names[index])
            stage = "describe"
            return self.preprocess(image)
        except ImageError as error:
            failures[index] = error.stage, _one_line(str(error))
        except Exception as error:  # whatever one photo does, the others go on
            failures[index] = stage, _one_line(f"{type(error).__name__}: {error}")
        return None

    def _fill(self, loaded: _Loaded, groups: list[list[tuple[int, Tensor]]]) -> None:
        """Stack the groups of each size into a run."""
        import torch

        by_size: dict[tuple[int, ...], list[list[tuple[int, Tensor]]]] = {}
        for group in groups:
            sizes = {tuple(tensor.shape): self.names[index] for index, tensor in group}
            if len(sizes) > 1:
                loaded.refusal = _sizes_differ(sizes)
                return
            by_size.setdefault(next(iter(sizes)), []).append(group)
        for same in by_size.values():
            indices = np.array([index for group in same for index, _ in group])
            tensor = torch.stack([tensor for group in same for _, tensor in group])  # (b, 3, h, w)
            counts = [len(group) for group in same]
            loaded.runs.append(_Run(tensor, counts if max(counts) > 1 else None, indices))


def _sizes_differ(sizes: dict[tuple[int, ...], str]) -> str:
    (a, first), (b, second) = list(sizes.items())[:2]
    return (
        f"{first} ({a[1]} x {a[2]}) and {second} ({b[1]} x {b[2]}) are in one group but differ in size. "
        "Give the method an image size, or describe each photo alone."
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _default_workers(count: int) -> int:
    if count < SMALL_SET or multiprocessing.current_process().daemon:  # a daemon may not start processes
        return 0
    return min(MOST_WORKERS, max(1, (os.cpu_count() or 2) - 1))


def _load(method: Method, images: ImageSet, batches: Sequence[Batch], workers: int) -> Generator[_Loaded]:
    """Read the batches in order, `workers` of them ahead."""
    items = _Batches(method, images, batches)
    if workers < 1 or not batches:
        yield from (items[number] for number in range(len(items)))
        return
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        items,  # type: ignore[arg-type]  # a Dataset in all but name; importing that would load torch
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # with no batch_size it gets one item
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # or it would draw its seed from the caller's random numbers
    )
    loading = iter(loader)
    while True:
        try:
            loaded = next(loading)
        except StopIteration:
            return
        except RuntimeError as error:  # items never raise, so this is the loader itself
            raise InputError(
                f"a process that reads photos died ({_one_line(str(error))[:200]}). It ran out of memory, or "
                "a photo crashed the decoder. Run again with 0 workers to see which."
            ) from error
        yield loaded


def _as_it_is(loaded: _Loaded) -> _Loaded:
    return loaded


def _start_worker(_: int) -> None:
    import signal

    import torch

    torch.set_num_threads(1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the main process, which then ends its workers


# --- where the descriptors grow


class _Work(Protocol):
    """Descriptors in the making: one row for each image, failed or not."""

    made: MadeBy
    done: int  # batches
    failed: Failures

    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None: ...
    def batch_done(self, failures: Failures) -> None: ...
    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet: ...
    def give_up(self) -> None: ...


def _finish(work: _Work, images: ImageSet) -> Described:
    problems = tuple(Problem(images.names[index], *work.failed[index]) for index in sorted(work.failed))
    if len(problems) == len(images):
        work.give_up()
        first = problems[0]
        raise InputError(
            f"none of the {len(images)} photos in {images.root} could be described. "
            f"The first: {first.name}: {first.stage}: {first.reason}"
        )
    kept = np.setdiff1d(np.arange(len(images)), np.fromiter(work.failed, np.int64))
    return Described(work.finish(tuple(images.names[index] for index in kept.tolist()), kept), kept, problems)


class _InMemory:
    def __init__(self, count: int, made: MadeBy) -> None:
        self.made, self.done = made, 0
        self.failed: Failures = {}
        self.rows = np.zeros((count, made.dim), np.float32)

    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self.rows[indices] = vectors

    def batch_done(self, failures: Failures) -> None:
        self.failed |= failures
        self.done += 1

    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet:
        return DescriptorSet(names, self.rows if len(kept) == len(self.rows) else self.rows[kept], self.made)

    def give_up(self) -> None:
        """Nothing was kept."""


class _OnDisk:
    """A folder `.NAME.partial` beside the file: the rows so far, and how far that is.

    The rows are synced before the state that counts them, so a crash at any moment costs a few seconds of
    work and never leaves a row that is counted but not there. Rows are written, not mapped: a full disk is
    then an error and not the end of the process.
    """

    def __init__(self, out: Path, count: int, made: MadeBy, mark: str, note: Callable[[str], None]) -> None:
        self.out, self.count, self.made, self.mark, self.note = out, count, made, mark, note
        self.folder = out.with_name(f".{out.name}.partial")
        self.done, self.saved_at = 0, time.monotonic()
        self.failed: Failures = {}
        self.file: IO[bytes] | None = None
        self.lock = contextlib.ExitStack()

    @property
    def rows(self) -> Path:
        return self.folder / "vectors.f32"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    def __enter__(self) -> Self:
        if self.out.is_dir():
            raise InputError(f"{self.out} is a folder. Give the name of a file for the descriptors.")
        with self._one_line_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
        self.lock.enter_context(held_alone(self.folder / "lock", str(self.out)))
        try:
            with self._one_line_errors():
                if not self._take_up():
                    self._start_afresh()
        except BaseException:
            self.lock.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if self.file:
            if kind:
                with contextlib.suppress(OSError, InputError):  # the first error is the one to report
                    self._save_state()
            with contextlib.suppress(OSError):
                self.file.close()
        self.lock.close()

    def _take_up(self) -> bool:
        """Go on with the work of an earlier run, if it was the same work."""
        if not self.state.exists():
            return False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            state = json.loads(self.state.read_text(encoding="utf-8"))
            whole = self.rows.stat().st_size == self.count * self.made.dim * 4
            if state["mark"] == self.mark and whole:
                failed = {
                    int(index): (str(stage), str(reason))
                    for index, (stage, reason) in state["failed"].items()
                }
                done = int(state["batches_done"])
                self.file = self.rows.open("r+b")
                self.done, self.failed = done, failed
                return True
        self.note(f"the unfinished work in {self.folder} was for other photos or settings; starting afresh.")
        return False

    def _start_afresh(self) -> None:
        self.state.unlink(missing_ok=True)  # first, so that no state ever speaks of the new rows
        sync(self.folder)
        self.file = self.rows.open("w+b")
        self.file.truncate(self.count * self.made.dim * 4)
        self._save_state()

    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        assert self.file
        with self._one_line_errors():
            for index, vector in zip(indices.tolist(), vectors.astype("<f4", copy=False), strict=True):
                self.file.seek(index * self.made.dim * 4)
                self.file.write(vector.tobytes())

    def batch_done(self, failures: Failures) -> None:
        self.failed |= failures
        self.done += 1
        if time.monotonic() - self.saved_at >= STATE_EVERY_S:
            self._save_state()

    def _save_state(self) -> None:
        assert self.file
        with self._one_line_errors():
            self.file.flush()
            os.fsync(self.file.fileno())
        failed = {str(index): list(why) for index, why in self.failed.items()}
        write_text(self.state, json.dumps({"mark": self.mark, "batches_done": self.done, "failed": failed}))
        self.saved_at = time.monotonic()

    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet:
        self._save_state()
        rows = np.memmap(self.rows, "<f4", "r", shape=(self.count, self.made.dim))
        save_rows(self.out, names, rows, kept, self.made)
        self.give_up()
        return DescriptorSet.load(self.out)

    def give_up(self) -> None:
        """Remove the folder: the work is either in its place or worth nothing."""
        if self.file:
            self.file.close()
            self.file = None
        self.state.unlink(missing_ok=True)  # first: a folder without a state is never taken up
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot write {self.folder}: {error.strerror or error}. Choose another place or free it; "
                "what is finished is kept, and the next run goes on from there."
            ) from error


# --- talk


class _Progress:
    """A bar on stderr, a function of the caller's, or nothing. The only place here that prints."""

    def __init__(self, progress: bool | Report, total: int) -> None:
        self.total, self.done = total, 0
        self.report: Report | None = None if isinstance(progress, bool) else progress
        self.wants_bar = progress is True
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, done: int) -> None:
        """Begin to count; `done` images were described by an earlier run."""
        self.done = done
        if self.wants_bar:
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.total, initial=done, unit=" images", file=sys.stderr, dynamic_ncols=True
            )

    def advance(self, count: int) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if self.report is not None:
            self.report(self.done, self.total)

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr)

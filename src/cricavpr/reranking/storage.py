"""Files that re-ranking stores: the local features of each photo, and the results of the finished queries."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import growing, size_and_time, written_beside
from cricavpr.locks import exclusive
from cricavpr.methods.base import LocalFeatures

FORMAT = "cricavpr.local.2"
SAVE_EVERY_S = 5.0  # seconds between saves: a crash loses at most the work since the last save


class LocalStore:
    """Files with the local features of photos.

    The name of a file depends on path, size and mtime of the photo, and on all settings that change local features. So
    stored features are not used after the photo or these settings have changed.

    Args:
        folder: folder of the files.
        made: provenance of the descriptors: method, weights and settings.
        local: one line with the other settings that change local features.
    """

    def __init__(self, folder: Path, made: MadeBy, local: str) -> None:
        self.folder = folder
        self.made = json.dumps([made.to_dict(), local], sort_keys=True)

    def place(self, images: ImageSet, index: int) -> Path:
        """Return the path of the file with the local features of a photo; the file may be missing."""
        key = hashlib.sha256(f"{FORMAT}\0{self.made}\0".encode() + identity(images, index)).hexdigest()
        return self.folder / key[:2] / f"{key[2:34]}.safetensors"

    def has(self, images: ImageSet, index: int) -> bool:
        """Return whether the local features of a photo are stored."""
        return self.place(images, index).is_file()

    def put(self, images: ImageSet, index: int, features: LocalFeatures) -> None:
        """Store the local features of a photo."""
        from safetensors.numpy import save

        content = save({name: np.ascontiguousarray(array) for name, array in features.items()})
        with written_beside(self.place(images, index)) as beside:
            beside.write_bytes(content)

    def get(self, images: ImageSet, index: int) -> LocalFeatures:
        """Read the stored local features of a photo.

        Raises:
            InputError: the file is damaged or missing.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        place = self.place(images, index)
        try:
            features: LocalFeatures = load_file(place)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"cannot read the local features of {images.names[index]} from {place}: {error}. "
                "Delete this file and run again."
            ) from None
        return features


def identity(images: ImageSet, index: int) -> bytes:
    """Return bytes that identify the file of a photo: its path, size and mtime."""
    path = images.path(index)
    size, time_ns = size_and_time(path)  # -1, -1 for a missing photo, which is reported when read
    return os.fsencode(path.absolute()) + f"\0{size}\0{time_ns}\0".encode()


class Results:
    """Results of the queries that are finished, in a file that is saved every few seconds.

    The next run resumes from the file, unless its checksum is wrong or it belongs to another run.

    Attributes:
        done: number of queries that have a result.
        indices, scores: (Q, n), the results; only the first `done` rows are filled.
    """

    def __init__(self, path: Path, mark: str, shape: tuple[int, ...]) -> None:
        self.path, self.mark = path, mark
        self.done = self.saved = 0
        self.indices, self.scores = np.zeros(shape, "<i8"), np.zeros(shape, "<f8")
        self.saved_at = time.monotonic()
        self.lock = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with growing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lock.enter_context(exclusive(self.path.with_suffix(".lock"), str(self.path)))
        with contextlib.suppress(OSError):
            self._resume(self.path.read_bytes())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.lock, contextlib.suppress(*([InputError] if kind else [])):  # report the first error
            if self.done > self.saved:
                self._save()

    def append(self, indices: NDArray[np.int64], scores: NDArray[np.float64]) -> None:  # (n,) each
        """Add the result of the next query. Every few seconds save all results to the file."""
        self.indices[self.done], self.scores[self.done] = indices, scores
        self.done += 1
        if time.monotonic() - self.saved_at >= SAVE_EVERY_S:
            self._save()

    def _head(self, rows: bytes) -> bytes:
        return f"{self.mark} {zlib.crc32(rows):08x}\n".encode()

    def _save(self) -> None:
        rows = self.indices[: self.done].tobytes() + self.scores[: self.done].tobytes()
        with written_beside(self.path) as beside:
            beside.write_bytes(self._head(rows) + rows)
        self.saved = self.done
        self.saved_at = time.monotonic()

    def _resume(self, content: bytes) -> None:
        head, _, rows = content.partition(b"\n")
        width = self.indices.shape[1]
        done = len(rows) // (16 * width) if width else 0
        if head + b"\n" != self._head(rows) or len(rows) != 16 * width * done or done > len(self.indices):
            return
        self.done = self.saved = done
        self.indices[:done] = np.frombuffer(rows, "<i8", done * width).reshape(done, width)
        self.scores[:done] = np.frombuffer(rows, "<f8", offset=8 * width * done).reshape(done, width)

"""Local features on disk: one safetensors file for each photo, complete or not there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import ImageSet
from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import size_and_time, written_beside
from cricavpr.methods.base import LocalFeatures

FORMAT = "cricavpr.local.2"


class LocalStore:
    """Cache of local features, by path, size and mtime of the photo and by what decides its features."""

    def __init__(self, folder: Path, made: MadeBy, local: str) -> None:
        self.folder = folder
        self.made = json.dumps([made.to_dict(), local], sort_keys=True)

    def place(self, images: ImageSet, index: int) -> Path:
        """Return the path of the file for a photo."""
        key = hashlib.sha256(f"{FORMAT}\0{self.made}\0".encode() + identity(images, index)).hexdigest()
        return self.folder / key[:2] / f"{key[2:34]}.safetensors"

    def has(self, images: ImageSet, index: int) -> bool:
        """Return whether the features of a photo are there."""
        return self.place(images, index).is_file()

    def put(self, images: ImageSet, index: int, features: LocalFeatures) -> int:
        """Write the features of a photo durably; return their size in bytes.

        Raises:
            InputError: the file cannot be written.
        """
        from safetensors.numpy import save

        content = save({name: np.ascontiguousarray(array) for name, array in features.items()})
        with written_beside(self.place(images, index)) as beside:
            beside.write_bytes(content)
        return len(content)

    def get(self, images: ImageSet, index: int) -> LocalFeatures:
        """Read the features of a photo.

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
                "Delete that file and run again."
            ) from None
        return features


def identity(images: ImageSet, index: int) -> bytes:
    """Identify the file of a photo by path, size and mtime."""
    path = images.path(index)
    size, time_ns = size_and_time(path)  # -1, -1 for a missing photo, which is reported when read
    return os.fsencode(path.absolute()) + f"\0{size}\0{time_ns}\0".encode()

"""Local features on disk: one small safetensors file for each photo, whole or not there."""

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
    """Keeps what a method found in each photo, by the photo's place, size and time and by how it was made."""

    def __init__(self, folder: Path, made: MadeBy, local: str) -> None:
        self.folder = folder
        self.made = json.dumps([made.to_dict(), local], sort_keys=True)

    def place(self, images: ImageSet, index: int) -> Path:
        key = hashlib.sha256(f"{FORMAT}\0{self.made}\0".encode() + identity(images, index)).hexdigest()
        return self.folder / key[:2] / f"{key[2:34]}.safetensors"

    def has(self, images: ImageSet, index: int) -> bool:
        return self.place(images, index).is_file()

    def put(self, images: ImageSet, index: int, features: LocalFeatures) -> int:
        """Write what was found in one photo, durably; returns how many bytes it takes.

        Raises:
            InputError: the place cannot be written.
        """
        from safetensors.numpy import save

        content = save({name: np.ascontiguousarray(array) for name, array in features.items()})
        with written_beside(self.place(images, index)) as beside:
            beside.write_bytes(content)
        return len(content)

    def get(self, images: ImageSet, index: int) -> LocalFeatures:
        """Read it back.

        Raises:
            InputError: the file was damaged or taken away.
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
    """Which file a photo is: where it lies, how long it is, and when it was last written."""
    path = images.path(index)
    size, time_ns = size_and_time(path)  # of none, a Problem when it is read
    return os.fsencode(path.absolute()) + f"\0{size}\0{time_ns}\0".encode()

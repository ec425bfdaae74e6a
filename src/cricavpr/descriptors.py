"""DescriptorSet: names, vectors and how they were made, kept together in one file.

Descriptors that were made differently must never be compared: `MadeBy.require_same` makes that an error
instead of a low recall.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError, MadeByError
from cricavpr.files import refuse_other_content, written_beside

FORMAT = "cricavpr.descriptors.1"
UNIT_TOLERANCE = 1e-2  # of a descriptor's length: half precision stays within it
ROWS_AT_ONCE = 4096  # vectors copied at a time


@dataclass(frozen=True)
class MadeBy:
    """Everything that decides what a descriptor means.

    Attributes:
        method: name in the table of methods.
        weights: SHA-256 of the weights file, or "none" for a method without weights.
        image_size: (height, width) in pixels, or None for native size.
        preprocessing: one line, from `Preprocess.describe`.
        grouping: which images saw one another, as printed by `Grouping`; "none" for a method that does not
            correlate.
        pca: what reduced the descriptors, or None.
        dim: length of a descriptor.
    """

    method: str
    weights: str
    image_size: tuple[int, int] | None
    preprocessing: str
    grouping: str
    pca: str | None
    dim: int

    def differences(self, other: MadeBy) -> list[str]:
        """One line for each field that differs: `weights: 3fa2… here, 77b1… there`."""
        here, there = asdict(self), asdict(other)
        return [
            f"{key}: {_short(here[key], there[key])} here, {_short(there[key], here[key])} there"
            for key in here
            if here[key] != there[key]
        ]

    def require_same(self, other: MadeBy, what: str) -> None:
        """Refuse to compare with descriptors made otherwise.

        Raises:
            MadeByError: naming each field that differs.
        """
        if differences := self.differences(other):
            raise MadeByError(
                f"{what} were made differently ({'; '.join(differences)}), so their distances mean nothing. "
                "Describe both with the same method, weights, image size and grouping."
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what a descriptor means."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MadeBy:
        size = values["image_size"]
        return cls(**{**values, "image_size": tuple(size) if size is not None else None})


def _short(value: object, other: object) -> str:
    """A value for a message; of a long list, what the other has not."""
    text = str(value)
    if len(text) <= 40:
        return text
    parts = [part for part in re.split("[,;] ", text) if part not in re.split("[,;] ", str(other))]
    shown = ", ".join(parts) or "less"
    return shown if len(shown) <= 60 else shown[:12] + "…"


@dataclass(frozen=True)
class DescriptorSet:
    """Descriptors of named images. `vectors` may be memory-mapped: it is read, never written."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]  # (N, D), unit length
    made_by: MadeBy

    def __post_init__(self) -> None:
        if self.vectors.shape != (len(self.names), self.made_by.dim):
            raise InputError(
                f"{len(self.names)} names and vectors of shape {self.vectors.shape} do not fit "
                f"{self.made_by.dim}-dimensional descriptors. The file or the call that made them is wrong."
            )

    def __len__(self) -> int:
        return len(self.names)

    def save(self, path: Path) -> None:
        """Write one safetensors file, durably. Equal sets give equal bytes.

        Raises:
            InputError: the place cannot be written.
        """
        save_rows(path, self.names, self.vectors, np.arange(len(self)), self.made_by)

    @classmethod
    def load(cls, path: Path) -> DescriptorSet:
        """Read what `save` wrote; the vectors are memory-mapped, so a large file opens at once.

        Raises:
            InputError: no such file, or not a descriptor file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                if header.get("format") != FORMAT:
                    raise InputError(f"{path} is not a descriptor file of this version ({FORMAT}). Describe again.")
                made_by = MadeBy.from_dict(json.loads(header["made_by"]))
                names = unpack_names(file.get_tensor("names"))
            return cls(names, _map_vectors(Path(path)), made_by)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"cannot read descriptors from {path}: {error}. Describe again.") from error


def save_rows(
    path: Path,
    names: Sequence[str],  # M names, one for each of `rows`
    vectors: NDArray[np.float32],  # (N, D), may be memory-mapped
    rows: NDArray[np.int64],  # (M,) which vectors to write
    made_by: MadeBy,
) -> None:
    """Write some rows as the file of a DescriptorSet, without ever holding all of them in memory.

    The header is written here because the safetensors library orders its metadata at random, and a file that
    is made twice shall be the same twice.

    Raises:
        InputError: the place cannot be written.
    """
    packed = pack_names(names)
    bytes_of_vectors = len(rows) * made_by.dim * 4
    header = {
        "__metadata__": {"format": FORMAT, "made_by": json.dumps(made_by.to_dict())},
        "vectors": {"dtype": "F32", "shape": [len(rows), made_by.dim], "data_offsets": [0, bytes_of_vectors]},
        "names": {
            "dtype": "U8",
            "shape": [packed.size],
            "data_offsets": [bytes_of_vectors, bytes_of_vectors + packed.size],
        },
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # safetensors aligns the data to 8 bytes
    with written_beside(Path(path)) as beside, beside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            file.write(vectors[rows[start : start + ROWS_AT_ONCE]].astype("<f4", copy=False).tobytes())
        file.write(packed.tobytes())


def refuse_other_files(path: Path) -> None:
    """Make sure that descriptors may be written to `path`: nothing is there, or older descriptors.

    Raises:
        InputError: something else, such as a photo that a slip of the hand would have replaced.
    """
    refuse_other_content(path, b"cricavpr.descriptors.", "descriptors")


def _map_vectors(path: Path) -> NDArray[np.float32]:  # (N, D)
    """The vectors of a file that safetensors has already found whole."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))["vectors"]
    shape = tuple(entry["shape"])
    if entry["dtype"] != "F32" or len(shape) != 2:
        raise InputError(f"{path} holds vectors of type {entry['dtype']} and shape {shape}. Describe again.")
    if 0 in shape:
        return np.empty(shape, np.float32)  # nothing to map
    return np.memmap(path, "<f4", "r", offset=8 + length + entry["data_offsets"][0], shape=shape)


def flaws(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:  # (N, D) -> (N,)
    """Which vectors are no descriptors: not finite, or not of unit length."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1)
    sound: NDArray[np.bool_] = np.abs(length - 1.0) <= UNIT_TOLERANCE  # False for NaN
    return ~sound


def refuse_flaws(descriptors: DescriptorSet) -> None:
    """Raises: InputError: naming the first photo whose vector is no descriptor."""
    for start in range(0, len(descriptors), ROWS_AT_ONCE):
        bad = flaws(descriptors.vectors[start : start + ROWS_AT_ONCE])
        if bad.any():
            name = descriptors.names[start + int(np.argmax(bad))]
            raise InputError(f"the descriptor of {name} is not finite or not of unit length. Describe it again.")


def pack_names(names: Sequence[str]) -> NDArray[np.uint8]:
    """File names as NUL-joined bytes: any name that a file system allows comes back unchanged."""
    return np.frombuffer(b"\0".join(map(os.fsencode, names)), np.uint8)


def unpack_names(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    """The inverse of `pack_names`."""
    return tuple(map(os.fsdecode, packed.tobytes().split(b"\0"))) if packed.size else ()

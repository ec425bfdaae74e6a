"""Descriptors of named images, in memory and in a file, with their provenance: the method and settings that made them.

Comparing descriptors of different methods or settings raises an error (`MadeBy.require_same`), because it would
otherwise silently give a low recall.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError, MadeByError
from cricavpr.files import refuse_other_content, written_beside
from cricavpr.schema import build, parse_json, to_plain

FORMAT = "cricavpr.descriptors.1"
UNIT_TOLERANCE = 1e-2  # allowed deviation of a descriptor's length from 1; half precision stays within it
ROWS_AT_ONCE = 4096  # vectors in memory at a time


@dataclass(frozen=True, repr=False)
class MadeBy:
    """Provenance of descriptors: method, weights and settings that computed them.

    Only descriptors with equal provenance may be compared.

    Attributes:
        method: name of the method, as in `cricavpr methods`.
        weights: SHA-256 of the weights file, or "none" for a method without weights.
        image_size: (height, width) of the network's input in pixels; None if images keep their size.
        preprocessing: description of the preprocessing, from `Preprocess.describe`.
        grouping: which images were described together, a `Grouping` as text; "none" for a method whose descriptors do
            not depend on other images.
        pca: description of the PCA that reduced the descriptors, or None.
        dim: number of dimensions of a descriptor.
    """

    method: str
    weights: str
    image_size: tuple[int, int] | None
    preprocessing: str
    grouping: str
    pca: str | None
    dim: int

    def __repr__(self) -> str:
        size = "any size" if self.image_size is None else "{}x{} px".format(*self.image_size)
        grouping = f"grouping {self.grouping}" + (f", {self.pca}" if self.pca else "")
        return f"<MadeBy {self.method}, weights {self.weights[:12]}, {size}, {grouping}, {self.dim}-d>"

    def differences(self, other: MadeBy) -> list[str]:
        """Return a text for each field that differs, such as `weights: 3fa2… here, 77b1… there`."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return [
            f"{name}: {_short(here, there)} here, {_short(there, here)} there"
            for name, here, there in pairs
            if here != there
        ]

    def require_same(self, other: MadeBy, what: str) -> None:
        """Raise if a field differs, because descriptors of different provenance must not be compared.

        Args:
            what: name of the two sets of descriptors at the beginning of the message, such as "the database and the
                queries".

        Raises:
            MadeByError: a field differs; the message names each such field.
        """
        if differences := self.differences(other):
            raise MadeByError(
                f"{what} have descriptors of different methods or settings ({'; '.join(differences)}), which cannot be "
                "compared. Describe both with the same method, weights, image size and grouping."
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all fields; equal for equal provenance."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dictionary, ready for JSON."""
        values: dict[str, Any] = to_plain(self)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MadeBy:
        """Create a MadeBy from the result of `to_dict`.

        Raises:
            InputError: a field is missing, unknown or of the wrong type.
        """
        return build(cls, values, "made_by")


def _short(value: object, other: object) -> str:
    """Return a value as text for an error message. Long text is cut to the parts that `other` does not have."""
    text = str(value)
    if len(text) <= 40:
        return text
    others = re.split("[,;] ", str(other))
    shown = ", ".join(part for part in re.split("[,;] ", text) if part not in others) or "less"
    return shown if len(shown) <= 60 else shown[:12] + "…"


@dataclass(frozen=True, repr=False)
class DescriptorSet:
    """Descriptors of named images.

    Attributes:
        names: names of the N images.
        vectors: (N, D) float32 descriptors of length 1; may be memory-mapped, and must not be changed.
        made_by: method, weights and settings that computed the descriptors.

    Raises:
        InputError: the shape of `vectors` does not match `names` and `made_by.dim`.

    Example:
        >>> made = MadeBy("mine", "none", None, "resized", "none", None, 2)
        >>> DescriptorSet(("a.jpg", "b.jpg"), np.eye(2, dtype=np.float32), made)
        <DescriptorSet 2 x 2, method mine, grouping none>
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    made_by: MadeBy

    def __post_init__(self) -> None:
        if self.vectors.shape != (len(self.names), self.made_by.dim):
            raise InputError(
                f"{len(self.names)} descriptors of dimension {self.made_by.dim} must have vectors of shape "
                f"{(len(self.names), self.made_by.dim)}, got {self.vectors.shape}. Check the file or the call."
            )

    def __repr__(self) -> str:
        made = self.made_by
        return f"<DescriptorSet {len(self):,} x {made.dim}, method {made.method}, grouping {made.grouping}>"

    def __len__(self) -> int:
        return len(self.names)

    def save(self, path: Path) -> None:
        """Write names, descriptors and provenance to a safetensors file. Equal sets give equal bytes.

        Raises:
            InputError: the file cannot be written.
        """
        save_rows(path, self.names, self.vectors, np.arange(len(self)), self.made_by)

    @classmethod
    def load(cls, path: Path) -> DescriptorSet:
        """Read a file that `save` wrote. The descriptors are memory-mapped, so even a large file opens at once.

        Raises:
            InputError: the file does not exist or is not a descriptor file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                if header.get("format") != FORMAT:
                    raise InputError(
                        f"{path} must be a descriptor file of the format {FORMAT}, got {header.get('format')!r}. "
                        "Describe the photos again."
                    )
                where = f"{path}: made_by"
                made_by = build(MadeBy, parse_json(header["made_by"], where), where)
                names = unpack_names(file.get_tensor("names"))
            return cls(names, _map_vectors(Path(path)), made_by)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"cannot read descriptors from {path}: {error}. Describe the photos again.") from error


def save_rows(
    path: Path,
    names: Sequence[str],  # M names, one for each of `rows`
    vectors: NDArray[np.float32],  # (N, D), may be memory-mapped
    rows: NDArray[np.int64],  # (M,) which vectors to write
    made_by: MadeBy,
) -> None:
    """Write some rows of `vectors` as a descriptor file, in blocks, so that they are never all in memory.

    Equal descriptors must give equal bytes. So the safetensors library does not write the header, because it would put
    the metadata in random order.

    Raises:
        InputError: the file cannot be written.
    """
    packed = pack_names(names)
    end = len(rows) * made_by.dim * 4  # end of the vectors in bytes
    header = {
        "__metadata__": {"format": FORMAT, "made_by": json.dumps(made_by.to_dict())},
        "vectors": {"dtype": "F32", "shape": [len(rows), made_by.dim], "data_offsets": [0, end]},
        "names": {"dtype": "U8", "shape": [packed.size], "data_offsets": [end, end + packed.size]},
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # safetensors aligns the data to 8 bytes
    with written_beside(Path(path)) as beside, beside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            file.write(vectors[rows[start : start + ROWS_AT_ONCE]].astype("<f4", copy=False).tobytes())
        file.write(packed.tobytes())


def refuse_other_files(path: Path) -> None:
    """Raise InputError if `path` exists and is not a descriptor file, so that no other file is overwritten."""
    refuse_other_content(path, b"cricavpr.descriptors.", "descriptors")


def _map_vectors(path: Path) -> NDArray[np.float32]:  # (N, D)
    """Memory-map the vectors of a descriptor file that safetensors has already opened without an error."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))["vectors"]
    shape = tuple(entry["shape"])
    if entry["dtype"] != "F32" or len(shape) != 2:
        raise InputError(
            f"{path} must hold vectors of shape (N, D) and type F32, got shape {shape} and type {entry['dtype']}. "
            "Describe the photos again."
        )
    if 0 in shape:
        return np.empty(shape, np.float32)  # an empty array cannot be memory-mapped
    return np.memmap(path, "<f4", "r", offset=8 + length + entry["data_offsets"][0], shape=shape)


def flaws(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:  # (N, D) -> (N,)
    """Return which vectors are invalid, that is, not finite or not of length 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1)
    sound: NDArray[np.bool_] = np.abs(length - 1.0) <= UNIT_TOLERANCE  # False for NaN
    return ~sound


def refuse_flaws(descriptors: DescriptorSet) -> None:
    """Raise if a descriptor is not finite or not of length 1.

    Raises:
        InputError: the message names the first such photo.
    """
    for start in range(0, len(descriptors), ROWS_AT_ONCE):
        bad = flaws(descriptors.vectors[start : start + ROWS_AT_ONCE])
        if bad.any():
            name = descriptors.names[start + int(np.argmax(bad))]
            raise InputError(
                f"the descriptor of {name} must be finite and of length 1, but it is not. Describe this photo again."
            )


def pack_names(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return file names as one byte array, separated by NUL, because no file name can contain NUL."""
    return np.frombuffer(b"\0".join(map(os.fsencode, names)), np.uint8)


def unpack_names(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    """Return the file names in a byte array from `pack_names`."""
    return tuple(map(os.fsdecode, packed.tobytes().split(b"\0"))) if packed.size else ()

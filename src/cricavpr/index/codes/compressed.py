"""The compressed engine: codes in memory select a shortlist of photos, which is scored exactly.

Only the descriptors of the shortlist are read from the disk. The codes are computed by a quantiser, which is learnt
once on a sample of the descriptors and then kept. The method is that of Jegou et al., "Product quantization for nearest
neighbor search" (2011). A descriptor is centred, projected on the principal directions of the sample, and rotated at
random. The rotation gives all parts of the code a similar variance, as in Ge et al., "Optimized product quantization"
(2013), but it is not optimised. Then the result is divided into parts, and each part is coded with 4 bits.
docs/search.md gives the reasons for the numbers below.

Letters in shapes: D values of a descriptor, d values after the projection, M parts of a code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import written_beside
from cricavpr.index.array_file import ArrayFile, Column, write_arrays
from cricavpr.index.codes import fast_scan
from cricavpr.index.codes.fast_scan import Packed, best_codes, products_of_halves
from cricavpr.index.exact import Queries, Scores, check_queries, search_rows
from cricavpr.index.search import Predictions
from cricavpr.index.storage import CodesError
from cricavpr.index.vectors import Floats, Indices, Mask, Rows, advise
from cricavpr.pca import principal_directions

KIND = "cricavpr.quantiser.2"
DIMS = 512  # values of a descriptor after the projection on the principal directions
PARTS = 256  # parts of a code; 4 bits each, so a code has 128 bytes. PARTS is even and divides DIMS
SAMPLE = 16_384  # rows to learn from, spread evenly over the index
FEWEST_ROWS = 64  # the fewest rows to learn from
AT_ONCE = 192  # vectors in each matrix product: always the same number, because the rounding depends on it
ARRAYS = ("mean", "projection", "centroids")

SHORTLIST = 400  # default number of vectors that are read for each query; `tune` measures how many an index needs
SHORTLIST_PER_RESULT = 10  # for each photo that a query asks for, at least this many vectors are read
READ_ROWS = 4096  # vectors of a shortlist in memory at a time
FEW = 20  # if a filter allows at most 20 times the shortlist, all allowed rows are read and the result is exact


def code_size(dim: int, rows: int) -> tuple[int, int]:
    """Return two numbers: how many values a projected descriptor has, and into how many parts it is divided.

    Args:
        dim: number of values of a descriptor.
        rows: number of descriptors to learn from.
    """
    most = min(DIMS, dim, rows - 1)
    parts = min(PARTS, most - most % 2)
    return most // parts * parts, parts


@dataclass(frozen=True, eq=False)
class Quantiser:
    """A learnt quantiser, which computes the codes of descriptors.

    Attributes:
        mean: (D,) float32 mean of the descriptors that it was learnt from.
        projection: (d, D) float32 projection to d values, with orthonormal rows.
        centroids: (M, 16, d / M) float32, 16 centroids for each part. For each part, a code holds the number of the
            nearest centroid in 4 bits.
        made_by: fingerprint of the method, weights and settings that made the descriptors.
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    centroids: NDArray[np.float32]
    made_by: str

    def __post_init__(self) -> None:
        parts, count, width = self.centroids.shape
        d, dim = self.projection.shape
        fit = parts * width == d > 0 and count == fast_scan.CENTROIDS and self.mean.shape == (dim,)
        if not fit or parts % 2:
            raise ValueError("the shapes of its arrays do not fit together")
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in self.arrays().values()):
            raise ValueError("its arrays are not finite float32")

    @classmethod
    def learn(cls, rows: Rows, made_by: MadeBy) -> Self:
        """Learn a quantiser from a sample of the rows. The same rows give the same quantiser.

        Raises:
            InputError: there are too few rows, or a value of a descriptor is not finite.
            MissingExtraError: faiss is not installed.
        """
        fast_scan.require_faiss()
        live = rows.allowed()
        there = np.arange(len(rows)) if live is None else np.flatnonzero(live)
        if len(there) < FEWEST_ROWS:
            raise InputError(
                f"compressed search needs at least {FEWEST_ROWS} photos to learn codes from, got {len(there)}. "
                "Use the engine 'exact'."
            )
        chosen = there[np.linspace(0, len(there) - 1, min(SAMPLE, len(there))).astype(np.int64)]
        sample = rows.read(chosen).astype(np.float32, copy=False)
        dims, parts = code_size(rows.dim, len(sample))
        found = principal_directions(sample, dims, "a quantiser")
        turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dims, dims)))
        projection = (turn @ found.directions).astype(np.float32)
        mean = found.mean.astype(np.float32)
        centroids = fast_scan.learn_centroids(np.matmul(sample - mean, projection.T), parts)
        return cls(mean, projection, centroids, made_by.fingerprint)

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def code_bytes(self) -> int:
        return len(self.centroids) // 2

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {name: getattr(self, name) for name in ARRAYS}

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the arrays and of `made_by`. Quantisers with the same fingerprint make the same codes."""
        digest = hashlib.sha256(self.made_by.encode())
        for array in self.arrays().values():
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def encode(
        self,
        vectors: Any,  # (n, D) array or Part
    ) -> NDArray[np.uint8]:  # (n, M / 2)
        """Return the codes of n vectors. The code of a vector depends only on this vector."""
        codes = np.empty((len(vectors), self.code_bytes), np.uint8)
        block = np.zeros((AT_ONCE, self.dim), np.float32)
        for start in range(0, len(vectors), AT_ONCE):
            some = vectors[start : start + AT_ONCE]
            np.subtract(some, self.mean, out=block[: len(some)], dtype=np.float32)
            codes[start : start + len(some)] = fast_scan.encode(
                self.centroids, np.matmul(block, self.projection.T)[: len(some)]
            )
        return codes

    def project(self, query: NDArray[np.float32]) -> NDArray[np.float32]:  # (D,) -> (1, d)
        """Return the projected query.

        The mean is not subtracted, because that would change all scores of a query by the same amount.

        BLAS is not used for the projection: its threads would keep the cores busy while codes are scanned.
        """
        projected: NDArray[np.float32] = np.einsum("kd,d->k", self.projection, query)
        return projected[None]

    def save(self, path: Path) -> None:
        """Write the quantiser to a file and sync it. Raises InputError if the file cannot be written."""
        columns = {name: Column.of(array) for name, array in self.arrays().items()}
        with written_beside(Path(path)) as beside:
            write_arrays(beside, {"kind": KIND, "made_by": self.made_by}, columns)

    @classmethod
    def load(cls, path: Path, made_by: MadeBy) -> Self:
        """Read a quantiser that `save` wrote.

        Raises:
            FileError: the file is missing, damaged or unreadable, or the quantiser was learnt from descriptors of
                another method, weights or settings than `made_by`.
        """
        file = ArrayFile(Path(path), error=CodesError)
        if file.about.get("kind") != KIND:
            raise CodesError(file.path, f"is not a quantiser of the format {KIND}")
        if file.about.get("made_by") != made_by.fingerprint:
            raise CodesError(file.path, "was made for descriptors of another method, weights or settings")
        try:
            found = cls(**{name: file.read(name) for name in ARRAYS}, made_by=made_by.fingerprint)
            if found.dim != made_by.dim:
                raise ValueError(f"it is for descriptors of {found.dim} values, expected {made_by.dim}")
            return found
        except (KeyError, ValueError) as error:
            raise CodesError(file.path, f"is not a valid quantiser ({error})") from error


@dataclass(frozen=True, eq=False)
class CompressedEngine:
    """The search engine that uses codes. Scores are exact, but a photo that is not on the shortlist is not found.

    Attributes:
        rows: the vectors of the index.
        quantiser: the quantiser that made the codes.
        pieces: the codes of all rows, in the same order.
        shortlist: how many vectors are read from the disk for each query.

    Raises:
        InputError: the codes do not match the rows, or the shortlist is below 1.
    """

    rows: Rows
    quantiser: Quantiser
    pieces: Sequence[Packed]
    shortlist: int = SHORTLIST

    def __post_init__(self) -> None:
        if self.shortlist < 1:
            raise InputError(f"shortlist must be at least 1, got {self.shortlist}.")
        coded = sum(piece.rows for piece in self.pieces)
        if coded != len(self.rows) or self.rows.dim != self.quantiser.dim:
            raise InputError(
                f"the codes are for {coded} rows of {self.quantiser.dim} values, expected {len(self.rows)} rows of "
                f"{self.rows.dim} values. Make the codes again with `cricavpr index tune --learn`."
            )
        for part in self.rows.parts:
            advise(part, "random")

    def with_shortlist(self, shortlist: int) -> Self:
        return replace(self, shortlist=shortlist)

    def search(
        self,
        queries: Queries,  # (Q, D)
        k: int,
        allowed: Mask | None = None,  # (N,)
    ) -> Predictions:  # (Q, min(k, rows allowed))
        """Return the k rows with the highest scores among the shortlist of each query. The scores are exact.

        Args:
            allowed: which rows may be found; None for all. Removed rows are never found.
        """
        check_queries(queries, k, self.rows.dim)
        mask = self.rows.allowed(allowed)
        count = len(self.rows) if mask is None else int(np.count_nonzero(mask))
        wanted = max(self.shortlist, SHORTLIST_PER_RESULT * k)
        if count <= (wanted if mask is None else FEW * wanted) or not len(queries):
            return search_rows(self.rows, queries, k, mask)
        found = [self._one(query[None], k, wanted, mask, count) for query in queries]
        return Predictions(
            np.concatenate([one.indices for one in found]), np.concatenate([one.scores for one in found])
        )

    def _one(self, query: Queries, k: int, wanted: int, mask: Mask | None, count: int) -> Predictions:
        nearest = np.sort(self.nominated(self.quantiser.project(query[0]), wanted, mask, count))
        if len(nearest) > READ_ROWS:
            return search_rows(self.rows, query, k, np.isin(np.arange(len(self.rows)), nearest, assume_unique=True))
        vectors = self.rows.read(nearest)
        nominate = products_of_halves if vectors.dtype == np.float16 else _products_of_one
        found = search_rows(Rows((vectors,), None, self.rows.dim), query, k, nominate=nominate)
        return Predictions(nearest[found.indices], found.scores)

    def nominated(self, projected: NDArray[np.float32], wanted: int, mask: Mask | None, count: int) -> Indices:
        """Return the `wanted` allowed rows with the highest scores, as estimated from the codes.

        Args:
            mask: which rows are allowed; None for all.
            count: number of allowed rows.
        """
        if mask is None:
            return best_codes(self.pieces, projected, wanted)
        asked = int(1.25 * wanted * len(mask) / count)  # enough if allowed rows are spread evenly
        while True:
            nearest = best_codes(self.pieces, projected, min(asked, len(mask)))
            nearest = nearest[mask[nearest]][:wanted]
            if len(nearest) == wanted or asked >= len(mask):
                return nearest
            asked *= 4


def _products_of_one(query: Queries, vectors: Floats) -> Scores:  # (1, D), (n, D) -> (1, n)
    """Return the dot products of one query with vectors.

    BLAS is not used: its threads would keep the cores busy while the next query is searched.
    """
    alone: Scores = np.einsum("d,nd->n", query[0], vectors)
    return alone[None]

"""PCA of descriptors: fit once, save with the provenance, apply anywhere, truncate to fewer values.

As in the authors' code of CricaVPR (`util.compute_pca`, scikit-learn's PCA): principal directions of the covariance,
variances with N - 1. They fit on descriptors of shuffled groups and do not renormalise the result; `Pca` records both
choices. We compute in float64 and fix the signs of the directions, so a fit is reproducible; the randomised solver that
scikit-learn uses from 10752 to 4096 values is not. Whatever the number of descriptors, memory holds only one (D, D)
covariance, its directions and one block of descriptors.

Whitening (`whiten=True`) divides by the standard deviation along each direction: Jegou and Chum, "Negative evidences
and co-occurrences in image retrieval" (ECCV 2012), called PCA_w by GCL. GCL adds 1e-6 to a length before dividing by
it; we do not, so our vectors differ from theirs by about 1e-7.

Letters: N descriptors, D values before, d after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import ROWS_AT_ONCE, DescriptorSet, MadeBy, save_rows
from cricavpr.errors import InputError, MadeByError
from cricavpr.files import give_back, written_beside
from cricavpr.progress import Report
from cricavpr.schema import build, parse_json, to_plain

Array = NDArray[np.float64]
ARRAYS = ("mean", "directions", "variances")


@dataclass(frozen=True, eq=False)
class Principal:
    """The directions in which descriptors vary most.

    Attributes:
        mean: (D,) mean of the descriptors.
        directions: (d, D) of unit length, largest variance first, each with its largest value positive.
        variances: (d,) variances along the directions, divided by N (not N - 1).
        count: number N of descriptors.
        sha256: SHA-256 of the descriptors as little-endian float32, rows in order.
    """

    mean: Array
    directions: Array
    variances: Array
    count: int
    sha256: str


def principal_directions(
    vectors: NDArray[np.floating[Any]],  # (N, D), may be memory-mapped
    dim: int | None = None,
    what: str = "a PCA",
    report: Report | None = None,
) -> Principal:
    """Find the `dim` directions of largest variance exactly, block by block.

    Args:
        dim: number of directions to keep; None keeps all in which the descriptors vary: at most D, and fewer than N.
        what: name of the fit in messages.
        report: called with (rows read, rows to read); all rows are read twice.

    Raises:
        InputError: there are fewer than two vectors, values are not finite, or `dim` is out of range.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise InputError(f"{what} needs an array of shape (N, D) with N of at least 2, got shape {vectors.shape}.")
    if dim is not None and dim < 1:
        raise InputError(f"the dimension of {what} must be at least 1, got {dim}.")
    mean, sha256 = _mean_and_digest(vectors, report)
    if not np.isfinite(mean).all():
        raise InputError(f"{what} needs finite vectors, got NaN or infinity. Leave those rows out.")
    most = vectors.shape[1] if dim is None else min(dim, vectors.shape[1])
    variances, directions = _largest(_covariance(vectors, mean, report), most)
    there = int((variances > variances[0] * len(mean) * np.finfo(np.float64).eps).sum())
    kept = there if dim is None else dim
    if not 1 <= kept <= there:
        raise InputError(
            f"{len(vectors)} descriptors vary in {there} directions, so {what} cannot keep {kept}. "
            "Fit on more descriptors, or keep fewer."
        )
    return Principal(mean, directions[:kept], variances[:kept], len(vectors), sha256)


@dataclass(frozen=True)
class _Header:
    """The JSON header of a file; the arrays follow it."""

    format: Literal["cricavpr.pca.1"]
    whiten: bool
    renormalise: bool
    fitted_on: MadeBy
    count: int
    sha256: str


@dataclass(frozen=True, eq=False, repr=False)
class Pca(Principal):
    """A fitted PCA; see `fit_pca`.

    Attributes:
        whiten: whether to divide each value by its standard deviation.
        renormalise: whether to scale reduced descriptors to unit length.
        fitted_on: provenance of the descriptors that it was fitted on, with their grouping.
    """

    whiten: bool
    renormalise: bool
    fitted_on: MadeBy

    def __post_init__(self) -> None:
        kept, before = self.directions.shape
        if self.mean.shape != (before,) or self.variances.shape != (kept,) or self.fitted_on.dim != before:
            raise ValueError("the shapes of its arrays do not match")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.directions).all() and (self.variances > 0).all()):
            raise ValueError("its values are not finite")

    def __repr__(self) -> str:
        return f"<Pca {self.fitted_on.method}, {self.fitted_on.dim} to {self.dim} values: {self.describe()}>"

    @property
    def dim(self) -> int:
        """Length of a reduced descriptor."""
        return len(self.directions)

    @property
    def explained_variance(self) -> Array:
        """(d,) variances along the directions, divided by N - 1 as in scikit-learn."""
        return self.variances * self.count / (self.count - 1)

    def describe(self) -> str:
        """Return one line with everything that decides a reduced descriptor, for `MadeBy.pca`."""
        whitened = "whitened" if self.whiten else "not whitened"
        length = "renormalised" if self.renormalise else "not renormalised"
        learnt = f"learnt on {self.count} descriptors, SHA-256 {self.sha256[:16]}"
        groups = "" if self.fitted_on.grouping == "none" else f" in groups {self.fitted_on.grouping}"
        return f"PCA to {self.dim}-d, {whitened}, {length}, {learnt}{groups}"

    def truncated(self, dim: int) -> Pca:
        """Return the PCA with only its first `dim` directions, equal to a fit of that size.

        Raises:
            InputError: `dim` is out of range.
        """
        if not 1 <= dim <= self.dim:
            raise InputError(f"this PCA has {self.dim} values, so its dimension must be 1 to {self.dim}, got {dim}.")
        return replace(self, directions=self.directions[:dim], variances=self.variances[:dim])

    def require_fits(self, made_by: MadeBy) -> None:
        """Raise if this PCA does not fit descriptors. Their grouping may differ, as in the authors' code.

        Raises:
            MadeByError: they have another method, weights or image size, or were reduced before.
        """
        if made_by.pca is not None:
            raise MadeByError(f"these descriptors were reduced before ({made_by.pca}). Give the original ones.")
        if differences := made_by.differences(replace(self.fitted_on, grouping=made_by.grouping)):
            raise MadeByError(
                f"the PCA was fitted on other descriptors ({'; '.join(differences)}). Fit one on descriptors of the "
                "same method, weights and image size."
            )

    def made(self, before: MadeBy) -> MadeBy:
        """Return the provenance of reduced descriptors, given that of the original ones."""
        return replace(before, pca=self.describe(), dim=self.dim)

    def project(self, vectors: NDArray[np.floating[Any]]) -> Array:  # (n, D) -> (n, d)
        """Return the reduced vectors, in float64."""
        reduced: Array = (np.asarray(vectors).astype(np.float64) - self.mean) @ self.directions.T
        if self.whiten:
            reduced /= np.sqrt(self.explained_variance)
        if self.renormalise:
            reduced /= np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return reduced

    def apply(self, descriptors: DescriptorSet, out: Path | None = None) -> DescriptorSet:
        """Return the descriptors reduced, under the same names.

        Args:
            out: write them to this file block by block, so that they are never all in memory.

        Raises:
            MadeByError: as for `require_fits`.
            InputError: the file cannot be written.

        Example:
            >>> import numpy as np
            >>> made = MadeBy("mine", "none", None, "resized", "none", None, 8)
            >>> vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
            >>> descriptors = DescriptorSet(tuple(f"{n}.jpg" for n in range(50)), vectors, made)
            >>> fit_pca(descriptors, 3).apply(descriptors).vectors.shape
            (50, 3)
        """
        self.require_fits(descriptors.made_by)
        made, rows = self.made(descriptors.made_by), _Reduced(self, descriptors.vectors)
        if out is not None:
            everything = np.arange(len(descriptors))
            save_rows(out, descriptors.names, rows, everything, made)  # type: ignore[arg-type]  # is only sliced
            return DescriptorSet.load(out)
        reduced = np.empty((len(descriptors), self.dim), np.float32)
        for part in _blocks(len(descriptors)):
            reduced[part] = rows[part]
        return DescriptorSet(descriptors.names, reduced, made)

    def save(self, path: Path) -> None:
        """Write one safetensors file, durably. Equal fits give equal bytes.

        Raises:
            InputError: the file cannot be written.
        """
        from safetensors.numpy import save

        header = _Header("cricavpr.pca.1", self.whiten, self.renormalise, self.fitted_on, self.count, self.sha256)
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}  # `save` writes the raw memory
        with written_beside(Path(path)) as beside:
            beside.write_bytes(save(tensors, {"cricavpr": json.dumps(to_plain(header))}))

    @classmethod
    def load(cls, path: Path) -> Pca:
        """Read a file that `save` wrote.

        Raises:
            InputError: no such file, or not a PCA.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                header = build(_Header, parse_json((file.metadata() or {}).get("cricavpr", "{}"), "header"), "header")
                mean, directions, variances = (file.get_tensor(name) for name in ARRAYS)
            principal = Principal(mean, directions, variances, header.count, header.sha256)
            return cls(
                **vars(principal), whiten=header.whiten, renormalise=header.renormalise, fitted_on=header.fitted_on
            )
        except (OSError, SafetensorError, ValueError, InputError) as error:
            reason = str(error).rstrip(".")
            raise InputError(f"cannot read a PCA from {path}: {reason}. Fit one with `cricavpr pca fit`.") from error


def fit_pca(
    descriptors: DescriptorSet,
    dim: int | None = None,
    *,
    whiten: bool = False,
    renormalise: bool = True,
    report: Report | None = None,
) -> Pca:
    """Fit a PCA on descriptors, which may be memory-mapped.

    Args:
        dim: number of values to keep; a fit to 4096 can be truncated to 2048, 1024 and 512 (`Pca.truncated`). None
            keeps every direction in which the descriptors vary.
        whiten: divide each value by its standard deviation. The authors of CricaVPR do not.
        renormalise: scale reduced descriptors to unit length. The authors of CricaVPR do not.
        report: called with (descriptors read, descriptors to read); all are read twice.

    Raises:
        InputError: `dim` is out of range, or the descriptors were reduced before.
    """
    if descriptors.made_by.pca is not None:
        raise InputError(
            f"these descriptors were reduced before ({descriptors.made_by.pca}). Fit on the original ones."
        )
    found = principal_directions(descriptors.vectors, dim, report=report)
    return Pca(**vars(found), whiten=whiten, renormalise=renormalise, fitted_on=descriptors.made_by)


class _Reduced:
    """Reduced descriptors, computed when they are sliced."""

    def __init__(self, pca: Pca, vectors: NDArray[np.float32]) -> None:
        self.pca, self.vectors = pca, vectors

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        reduced = self.pca.project(self.vectors[rows]).astype(np.float32)
        give_back(self.vectors)
        return reduced


# --- principal directions


def _mean_and_digest(vectors: NDArray[np.floating[Any]], report: Report | None) -> tuple[Array, str]:
    total, digest = np.zeros(vectors.shape[1]), hashlib.sha256()
    for rows in _blocks(len(vectors)):
        block = np.asarray(vectors[rows])
        total += block.sum(axis=0, dtype=np.float64)
        digest.update(np.ascontiguousarray(block, dtype="<f4").tobytes())
        give_back(vectors)
        if report:
            report(min(rows.stop, len(vectors)), 2 * len(vectors))
    return total / len(vectors), digest.hexdigest()


def _covariance(vectors: NDArray[np.floating[Any]], mean: Array, report: Report | None) -> Array:
    """Return the upper triangle of the covariance: half the work, and no second matrix of this size."""
    from scipy.linalg.blas import dsyrk

    total: Array = np.zeros((len(mean), len(mean)), order="F")
    for rows in _blocks(len(vectors)):
        centred = vectors[rows].astype(np.float64)  # (n, D)
        centred -= mean
        total = dsyrk(1.0 / len(vectors), centred.T, beta=1.0, c=total, overwrite_c=1)
        give_back(vectors)
        if report:
            report(len(vectors) + min(rows.stop, len(vectors)), 2 * len(vectors))
    return total


def _largest(covariance: Array, count: int) -> tuple[Array, Array]:  # (D, D) upper -> (count,), (count, D)
    """Return the largest variances and their directions. This overwrites the matrix."""
    from scipy.linalg import eigh

    kept = [len(covariance) - count, len(covariance) - 1]
    how = {"lower": False, "overwrite_a": True, "check_finite": False, "driver": "evr"}
    variances, columns = eigh(covariance, subset_by_index=kept, **how)
    directions = columns[:, ::-1].T
    # The largest value of each direction becomes positive, so that every machine agrees.
    largest = np.abs(directions).argmax(axis=1)[:, None]
    return variances[::-1], directions * np.sign(np.take_along_axis(directions, largest, axis=1))


def _blocks(count: int) -> Iterator[slice]:
    """Yield slices of at most ROWS_AT_ONCE rows."""
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, count, ROWS_AT_ONCE))

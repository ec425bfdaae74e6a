"""PCA of descriptors: fit it once, save it, and apply it to descriptors of the same method, weights and image size.

The PCA is that of the CricaVPR authors' code (`util.compute_pca`, which uses scikit-learn): principal directions of the
covariance, with variances divided by N - 1. The authors fit it on descriptors of shuffled groups, and do not scale
reduced descriptors to length 1 again. A `Pca` records both choices.

Fits are reproducible, because they compute in float64 and fix the signs of the directions. The randomised solver that
scikit-learn uses to reduce 10752 dimensions to 4096 is not reproducible. Memory use does not depend on the number of
descriptors: memory holds one (D, D) covariance, its directions and one block of descriptors.

Whitening (`whiten=True`) also divides by the standard deviation along each direction: Jegou and Chum, "Negative
evidences and co-occurrences in image retrieval" (ECCV 2012). The method GCL calls whitening PCA_w. To scale a vector
to length 1, GCL divides it by its length plus 1e-6. This module divides by the length, so results differ by about 1e-7.

Shapes: N is the number of descriptors, D their dimension before and d their dimension after the PCA.
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
    """Principal directions of descriptors, that is, the directions in which they vary most.

    Attributes:
        mean: (D,) mean of the descriptors.
        directions: (d, D) directions of length 1, largest variance first. The sign of each
            direction makes its component of largest magnitude positive.
        variances: (d,) variances along the directions, computed with the divisor N (not N - 1).
        count: number N of descriptors.
        sha256: SHA-256 of the descriptors as little-endian float32, row by row.
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
    """Compute the principal directions of vectors exactly, reading the vectors in blocks.

    Args:
        dim: number of directions to keep. None keeps all directions in which the vectors vary, at most D and at most
            N - 1.
        what: name of the computation at the beginning of error messages.
        report: called with (rows read, rows to read). Both count every row twice, because all rows are read twice.

    Raises:
        InputError: there are fewer than two vectors, values are not finite, or `dim` is out of range.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise InputError(f"{what} needs an array of shape (N, D) with N of at least 2, got shape {vectors.shape}.")
    if dim is not None and dim < 1:
        raise InputError(f"the dimension of {what} must be at least 1, got {dim}.")
    mean, sha256 = _mean_and_digest(vectors, report)
    if not np.isfinite(mean).all():
        raise InputError(f"{what} needs finite vectors, got NaN or infinity. Remove the rows with such values.")
    most = vectors.shape[1] if dim is None else min(dim, vectors.shape[1])
    variances, directions = _largest(_covariance(vectors, mean, report), most)
    there = int((variances > variances[0] * len(mean) * np.finfo(np.float64).eps).sum())
    kept = there if dim is None else dim
    if not 1 <= kept <= there:
        raise InputError(
            f"{what} cannot keep {kept} dimensions, because these {len(vectors)} descriptors vary in only {there} "
            "directions. Fit on more descriptors, or keep fewer dimensions."
        )
    return Principal(mean, directions[:kept], variances[:kept], len(vectors), sha256)


@dataclass(frozen=True)
class _Header:
    """Header of a PCA file, stored as JSON beside the arrays; the fields are those of `Pca`."""

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
        whiten: whether to divide each dimension by its standard deviation.
        renormalise: whether to scale reduced descriptors to length 1.
        fitted_on: method, weights, grouping and settings of the descriptors that the PCA was fitted on.
    """

    whiten: bool
    renormalise: bool
    fitted_on: MadeBy

    def __post_init__(self) -> None:
        kept, before = self.directions.shape
        if self.mean.shape != (before,) or self.variances.shape != (kept,) or self.fitted_on.dim != before:
            raise ValueError("the shapes of mean, directions, variances and fitted_on.dim must match, but they do not")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.directions).all() and (self.variances > 0).all()):
            raise ValueError("mean and directions must be finite and variances above 0, but they are not")

    def __repr__(self) -> str:
        return f"<Pca {self.fitted_on.method}, {self.fitted_on.dim} to {self.dim} dimensions: {self.describe()}>"

    @property
    def dim(self) -> int:
        """Number of dimensions of a reduced descriptor."""
        return len(self.directions)

    @property
    def explained_variance(self) -> Array:
        """(d,) variances along the directions, with the divisor N - 1 as in scikit-learn."""
        return self.variances * self.count / (self.count - 1)

    def describe(self) -> str:
        """Return one line that identifies this PCA and its settings; reduced descriptors carry it as `MadeBy.pca`."""
        whitened = "whitened" if self.whiten else "not whitened"
        length = "renormalised" if self.renormalise else "not renormalised"
        learnt = f"learnt on {self.count} descriptors, SHA-256 {self.sha256[:16]}"
        groups = "" if self.fitted_on.grouping == "none" else f" in groups {self.fitted_on.grouping}"
        return f"PCA to {self.dim}-d, {whitened}, {length}, {learnt}{groups}"

    def truncated(self, dim: int) -> Pca:
        """Return this PCA with only its first `dim` directions. It equals a PCA that was fitted with this `dim`.

        Raises:
            InputError: `dim` is out of range.
        """
        if not 1 <= dim <= self.dim:
            raise InputError(f"this PCA has {self.dim} dimensions, so it can keep 1 to {self.dim}, got {dim}.")
        return replace(self, directions=self.directions[:dim], variances=self.variances[:dim])

    def require_fits(self, made_by: MadeBy) -> None:
        """Raise if this PCA cannot be applied to descriptors with the provenance `made_by`.

        The groupings may differ, because the authors' code fits a PCA on descriptors of shuffled groups, and applies
        it to descriptors of other groups.

        Raises:
            MadeByError: method, weights, preprocessing or image size differ, or a PCA was already applied.
        """
        if made_by.pca is not None:
            raise MadeByError(
                f"a PCA needs descriptors that were not reduced before, got descriptors reduced by {made_by.pca}. Give "
                "the original descriptors."
            )
        if differences := made_by.differences(replace(self.fitted_on, grouping=made_by.grouping)):
            raise MadeByError(
                f"the PCA was fitted on descriptors of another kind ({'; '.join(differences)}). Fit a PCA on "
                "descriptors of the same method, weights and image size."
            )

    def made(self, before: MadeBy) -> MadeBy:
        """Return the provenance of reduced descriptors, given the provenance of the original descriptors."""
        return replace(before, pca=self.describe(), dim=self.dim)

    def project(self, vectors: NDArray[np.floating[Any]]) -> Array:  # (n, D) -> (n, d)
        """Return the vectors reduced by this PCA, in float64."""
        reduced: Array = (np.asarray(vectors).astype(np.float64) - self.mean) @ self.directions.T
        if self.whiten:
            reduced /= np.sqrt(self.explained_variance)
        if self.renormalise:
            reduced /= np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return reduced

    def apply(self, descriptors: DescriptorSet, out: Path | None = None) -> DescriptorSet:
        """Return the descriptors reduced by this PCA, with the same names.

        Args:
            out: write the reduced descriptors to this file in blocks, so that they are never all in memory. None keeps
                them in memory.

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
            save_rows(out, descriptors.names, rows, everything, made)  # type: ignore[arg-type]  # rows can be sliced
            return DescriptorSet.load(out)
        reduced = np.empty((len(descriptors), self.dim), np.float32)
        for part in _blocks(len(descriptors)):
            reduced[part] = rows[part]
        return DescriptorSet(descriptors.names, reduced, made)

    def save(self, path: Path) -> None:
        """Write the PCA to a safetensors file. Equal fits give equal bytes.

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
            InputError: the file does not exist or is not a PCA file.
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
            raise InputError(
                f"cannot read a PCA from {path}: {reason}. Give a file that `cricavpr pca fit` wrote."
            ) from error


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
        dim: number of dimensions to keep; None keeps all directions in which the descriptors vary. `Pca.truncated` can
            later reduce a PCA of 4096 dimensions to 2048, 1024 or 512.
        whiten: divide each dimension by its standard deviation. The authors of CricaVPR do not.
        renormalise: scale reduced descriptors to length 1. The authors of CricaVPR do not.
        report: called with (descriptors read, descriptors to read). Both count every descriptor twice, because all
            descriptors are read twice.

    Raises:
        InputError: `dim` is out of range, there are fewer than two descriptors, or a PCA was already applied to them.
    """
    if descriptors.made_by.pca is not None:
        raise InputError(
            "a PCA needs descriptors that were not reduced before, got descriptors reduced by "
            f"{descriptors.made_by.pca}. Fit it on the original descriptors."
        )
    found = principal_directions(descriptors.vectors, dim, report=report)
    return Pca(**vars(found), whiten=whiten, renormalise=renormalise, fitted_on=descriptors.made_by)


class _Reduced:
    """Array-like view of reduced descriptors; rows are computed when they are indexed."""

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
    """Return the (D, D) covariance, of which only the upper triangle is filled, to save half of the work."""
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
    """Return the `count` largest variances and their directions. This overwrites `covariance`."""
    from scipy.linalg import eigh

    kept = [len(covariance) - count, len(covariance) - 1]
    how = {"lower": False, "overwrite_a": True, "check_finite": False, "driver": "evr"}
    variances, columns = eigh(covariance, subset_by_index=kept, **how)
    directions = columns[:, ::-1].T
    # The component of largest magnitude becomes positive, so that all machines give the same sign.
    largest = np.abs(directions).argmax(axis=1)[:, None]
    return variances[::-1], directions * np.sign(np.take_along_axis(directions, largest, axis=1))


def _blocks(count: int) -> Iterator[slice]:
    """Yield slices of at most ROWS_AT_ONCE rows."""
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, count, ROWS_AT_ONCE))

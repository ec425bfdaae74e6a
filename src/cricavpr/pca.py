"""PCA of descriptors: fitted once, saved with what it was fitted on, applied everywhere, truncated to fewer values.

As in the authors' code of CricaVPR (`util.compute_pca`, scikit-learn's PCA): directions of the covariance about the
mean, variances with N - 1. There it is fitted on descriptors of shuffled groups and the result is not renormalised;
both are recorded here, and so is everything else that decides what a reduced descriptor means. We compute in float64
and fix the signs, so a fit is reproducible, which the randomised solver that the authors get at 10752 to 4096 is not.
Memory holds one (D, D) covariance, its directions and one block of descriptors, whatever their number.
Letters: N descriptors, D values before, d after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import ROWS_AT_ONCE, DescriptorSet, MadeBy, save_rows
from cricavpr.errors import InputError, MadeByError
from cricavpr.files import written_beside
from cricavpr.mapped import give_back

FORMAT = "cricavpr.pca.1"
Array = NDArray[np.float64]
Report = Callable[[int, int], None]  # descriptors read, and how many will be


@dataclass(frozen=True, eq=False)
class Principal:
    """The directions in which descriptors vary most.

    Attributes:
        mean: (D,) of the descriptors.
        directions: (d, D) of unit length, largest variance first, each with its largest value positive.
        variances: (d,) along these, of N (not N - 1) descriptors.
        count: N.
        sha256: of the descriptors as little-endian float32, rows in order.
    """

    mean: Array
    directions: Array
    variances: Array
    count: int
    sha256: str

    @property
    def learnt_on(self) -> str:
        """One line that tells one set of descriptors from another."""
        return f"learnt on {self.count} descriptors, SHA-256 {self.sha256[:16]}"


def principal_directions(
    vectors: NDArray[np.floating[Any]],  # (N, D), may be memory-mapped
    dim: int | None = None,
    what: str = "a PCA",
    report: Report | None = None,
) -> Principal:
    """Find the `dim` directions of largest variance, exactly, in one block of memory after another.

    Args:
        dim: left out, all in which the descriptors vary: at most D, and fewer than N.
        what: what is being learnt, for messages.
        report: told how many descriptors were read, of two passes.

    Raises:
        InputError: fewer than two vectors, values that are not finite, or more directions asked for than there are.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise InputError(f"{what} cannot be learnt on an array of shape {vectors.shape}. Give (N, D), N of 2 or more.")
    mean, sha256 = _mean_and_digest(vectors, report)
    if not np.isfinite(mean).all():
        raise InputError(f"{what} cannot be learnt on vectors that are not finite. Leave them out.")
    if dim is not None and dim < 1:
        raise InputError(f"{what} to {dim} values keeps nothing. Give 1 or more.")
    most = vectors.shape[1] if dim is None else min(max(dim, 1), vectors.shape[1])
    variances, directions = _largest(_covariance(vectors, mean, report), most)
    there = int((variances > variances[0] * len(mean) * np.finfo(np.float64).eps).sum())
    kept = there if dim is None else dim
    if not 1 <= kept <= there:
        raise InputError(
            f"{len(vectors)} descriptors vary in {there} directions, so {kept} cannot be kept. "
            "Learn on more, or ask for fewer."
        )
    return Principal(mean, directions[:kept], variances[:kept], len(vectors), sha256)


@dataclass(frozen=True, eq=False)
class Pca:
    """What `fit_pca` learnt.

    Attributes:
        principal: mean, directions and variances.
        whiten: whether every direction is divided by its standard deviation.
        renormalise: whether reduced descriptors get unit length again.
        fitted_on: how the descriptors were made that it was fitted on, their grouping included.
    """

    principal: Principal
    whiten: bool
    renormalise: bool
    fitted_on: MadeBy

    @property
    def dim(self) -> int:
        return len(self.principal.directions)

    @property
    def variances(self) -> Array:
        """(d,) along the directions, with N - 1 as scikit-learn has them."""
        return self.principal.variances * self.principal.count / (self.principal.count - 1)

    def describe(self) -> str:
        """One line with everything that decides a reduced descriptor: it goes into `MadeBy.pca`."""
        whitened = "whitened" if self.whiten else "not whitened"
        length = "renormalised" if self.renormalise else "not renormalised"
        grouping = self.fitted_on.grouping
        company = "" if grouping == "none" else f" in groups {grouping}"
        return f"PCA to {self.dim}-d, {whitened}, {length}, {self.principal.learnt_on}{company}"

    def truncated(self, dim: int) -> Pca:
        """The same with fewer values: the first ones are those of a smaller fit.

        Raises:
            InputError: more than there are, or none.
        """
        if not 1 <= dim <= self.dim:
            raise InputError(f"a PCA of {self.dim} values cannot be cut to {dim}. Give 1 to {self.dim}, or fit again.")
        part = self.principal
        return replace(self, principal=replace(part, directions=part.directions[:dim], variances=part.variances[:dim]))

    def require_fits(self, made_by: MadeBy) -> None:
        """Refuse descriptors that this PCA says nothing about. Their grouping may differ, as the authors' does.

        Raises:
            MadeByError: they were made otherwise, or reduced before.
        """
        if made_by.pca is not None:
            raise MadeByError(
                f"these descriptors went through {made_by.pca} already. Give them as they were described."
            )
        if differences := made_by.differences(replace(self.fitted_on, grouping=made_by.grouping)):
            raise MadeByError(
                f"the PCA was fitted on other descriptors ({'; '.join(differences)}). Fit one on descriptors of the "
                "same method, weights and image size."
            )

    def made(self, before: MadeBy) -> MadeBy:
        """How reduced descriptors are made, of what they were made before."""
        return replace(before, pca=self.describe(), dim=self.dim)

    def project(self, vectors: NDArray[np.floating[Any]]) -> Array:  # (n, D) -> (n, d)
        """Reduced vectors, in float64."""
        reduced: Array = (np.asarray(vectors).astype(np.float64) - self.principal.mean) @ self.principal.directions.T
        if self.whiten:
            reduced /= np.sqrt(self.variances)
        if self.renormalise:
            reduced /= np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return reduced

    def apply(self, descriptors: DescriptorSet, out: Path | None = None) -> DescriptorSet:
        """The same names with reduced descriptors; with `out` they are written there and never all in memory.

        Raises:
            MadeByError: as for `require_fits`.
            InputError: the place cannot be written.
        """
        self.require_fits(descriptors.made_by)
        made = self.made(descriptors.made_by)
        if out is not None:
            rows = _Reduced(self, descriptors.vectors)
            save_rows(out, descriptors.names, rows, np.arange(len(descriptors)), made)  # type: ignore[arg-type]
            return DescriptorSet.load(out)
        reduced = np.empty((len(descriptors), self.dim), np.float32)
        for part in blocks(len(descriptors)):
            reduced[part] = self.project(descriptors.vectors[part])
            give_back(descriptors.vectors)
        return DescriptorSet(descriptors.names, reduced, made)

    def save(self, path: Path) -> None:
        """Write one safetensors file, durably. Equal fits give equal bytes.

        Raises:
            InputError: the place cannot be written.
        """
        from safetensors.numpy import save

        part = self.principal
        header = {
            "format": FORMAT,
            "whiten": self.whiten,
            "renormalise": self.renormalise,
            "fitted_on": self.fitted_on.to_dict(),
            "count": part.count,
            "sha256": part.sha256,
        }
        arrays = {"mean": part.mean, "directions": part.directions, "variances": part.variances}
        tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # what is written is its memory
        with written_beside(Path(path)) as beside:
            beside.write_bytes(save(tensors, {"cricavpr": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> Pca:
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or not a PCA.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {}).get("cricavpr", "{}"))
                if header.get("format") != FORMAT:
                    raise InputError(
                        f"{path} is not a PCA of this version ({FORMAT}). Fit one with `cricavpr pca fit`."
                    )
                arrays = {name: file.get_tensor(name) for name in ("mean", "directions", "variances")}
            principal = Principal(**arrays, count=int(header["count"]), sha256=str(header["sha256"]))
            fitted_on = MadeBy.from_dict(header["fitted_on"])
            made = cls(principal, bool(header["whiten"]), bool(header["renormalise"]), fitted_on)
            _check_shapes(made)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"cannot read a PCA from {path}: {error}. Fit it again.") from error
        return made


def fit_pca(
    descriptors: DescriptorSet,
    dim: int,
    *,
    whiten: bool = False,
    renormalise: bool = True,
    report: Report | None = None,
) -> Pca:
    """Fit a PCA on descriptors, which may be memory-mapped.

    Args:
        dim: values to keep; a fit to 4096 also serves 2048, 1024 and 512, see `Pca.truncated`.
        whiten: divide by the standard deviation along each direction. The authors do not.
        renormalise: give reduced descriptors unit length. The authors do not.
        report: told how many descriptors were read, of two passes.

    Raises:
        InputError: more values asked for than the descriptors vary in, or descriptors that were reduced before.
    """
    if descriptors.made_by.pca is not None:
        raise InputError(
            f"these descriptors went through {descriptors.made_by.pca} already. Fit on them as they were described."
        )
    found = principal_directions(descriptors.vectors, dim, report=report)
    return Pca(found, whiten, renormalise, descriptors.made_by)


class _Reduced:
    """Reduced descriptors that exist only as far as they are being read."""

    def __init__(self, pca: Pca, vectors: NDArray[np.float32]) -> None:
        self.pca, self.vectors = pca, vectors

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        reduced = self.pca.project(self.vectors[rows]).astype(np.float32)
        give_back(self.vectors)
        return reduced


def _check_shapes(made: Pca) -> None:
    part = made.principal
    kept, before = part.directions.shape
    if part.mean.shape != (before,) or part.variances.shape != (kept,) or made.fitted_on.dim != before:
        raise ValueError("its arrays do not fit one another")
    if not (np.isfinite(part.mean).all() and np.isfinite(part.directions).all() and (part.variances > 0).all()):
        raise ValueError("its values are not finite")


# --- principal directions


def _mean_and_digest(vectors: NDArray[np.floating[Any]], report: Report | None) -> tuple[Array, str]:
    total, digest = np.zeros(vectors.shape[1]), hashlib.sha256()
    for rows in blocks(len(vectors)):
        block = np.asarray(vectors[rows])
        total += block.sum(axis=0, dtype=np.float64)
        digest.update(np.ascontiguousarray(block, dtype="<f4").tobytes())
        give_back(vectors)
        if report:
            report(min(rows.stop, len(vectors)), 2 * len(vectors))
    return total / len(vectors), digest.hexdigest()


def _covariance(vectors: NDArray[np.floating[Any]], mean: Array, report: Report | None) -> Array:
    """(D, D), its upper triangle only: half the work, and no second matrix of this size."""
    from scipy.linalg.blas import dsyrk

    total: Array = np.zeros((len(mean), len(mean)), order="F")
    for rows in blocks(len(vectors)):
        centred = vectors[rows].astype(np.float64)  # (n, D)
        centred -= mean
        total = dsyrk(1.0 / len(vectors), centred.T, beta=1.0, c=total, overwrite_c=1)
        give_back(vectors)
        if report:
            report(len(vectors) + min(rows.stop, len(vectors)), 2 * len(vectors))
    return total


def _largest(covariance: Array, count: int) -> tuple[Array, Array]:  # (D, D) upper -> (count,), (count, D)
    """Its largest variances and their directions; destroys the matrix."""
    from scipy.linalg import eigh

    size = len(covariance)
    variances, columns = eigh(
        covariance,
        lower=False,
        overwrite_a=True,
        check_finite=False,
        subset_by_index=[size - count, size - 1],
        driver="evr",
    )
    directions = columns[:, ::-1].T
    return variances[::-1], directions * _signs(directions)


def _signs(directions: Array) -> Array:  # (d, D) -> (d, 1)
    """A direction and its opposite serve alike: take the one whose largest value is positive, on every machine."""
    largest = np.abs(directions).argmax(axis=1)[:, None]
    return np.sign(np.take_along_axis(directions, largest, axis=1))


def blocks(count: int) -> Iterator[slice]:
    """The rows that are taken at a time."""
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, count, ROWS_AT_ONCE))

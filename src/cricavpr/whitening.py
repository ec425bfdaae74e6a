"""Whitening learnt on a database: descriptors turned and scaled until that database varies equally in every direction.

Source: Jegou and Chum, "Negative evidences and co-occurrences in image retrieval" (ECCV 2012), in the form that GCL
calls PCA_w. GCL learns it on the database of the very test set that is then searched: fair for a map that one owns,
not for comparing networks, so it is written into `MadeBy.pca`. We compute in float64 and fix the signs of the
directions; GCL's own float16 branch no longer runs. Letters: N descriptors, D dimensions before, d after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.pca import blocks, principal_directions

FLOOR = 1e-6  # added to a length before dividing by it, as GCL does


@dataclass(frozen=True, eq=False)
class Whitening:
    """What `fit_whitening` learnt.

    Attributes:
        mean: (D,) of the database.
        projection: (d, D) its principal directions, largest variance first, each over its standard deviation.
        learnt_on: one line that tells one database from another; goes into `MadeBy.pca`.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    learnt_on: str

    @property
    def dim(self) -> int:
        return len(self.projection)

    def apply(self, descriptors: DescriptorSet) -> DescriptorSet:
        """The same names with whitened descriptors, of unit length again, comparable with nothing but their like.

        Raises:
            InputError: they have another dimension, or went through PCA or whitening before.
        """
        made_by = descriptors.made_by
        if made_by.pca is not None:
            raise InputError(
                f"these descriptors went through {made_by.pca} already. Whiten them as they were described."
            )
        if made_by.dim != len(self.mean):
            raise InputError(
                f"a whitening of {len(self.mean)} dimensions does not fit descriptors of {made_by.dim}. "
                "Learn it on descriptors of the same method."
            )
        whitened = np.empty((len(descriptors), self.dim), np.float32)
        for rows in blocks(len(descriptors)):
            whitened[rows] = self.whiten(descriptors.vectors[rows])
        made = replace(made_by, pca=f"whitening to {self.dim}-d {self.learnt_on}", dim=self.dim)
        return DescriptorSet(descriptors.names, whitened, made)

    def whiten(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:  # (N, D) -> (N, d)
        """Whitened vectors of unit length."""
        turned = (vectors.astype(np.float64) - self.mean) @ self.projection.T  # (N, d)
        lengths: NDArray[np.float64] = np.linalg.norm(turned, axis=1, keepdims=True)
        return turned / (lengths + FLOOR)


def fit_whitening(vectors: NDArray[np.floating], dim: int | None = None) -> Whitening:  # (N, D)
    """Learn a whitening on the descriptors of a database, which may be memory-mapped.

    Args:
        dim: keep this many directions; left out, all in which the database varies: at most D, and fewer than N.

    Raises:
        InputError: fewer than two vectors, values that are not finite, or more directions asked for than there are.
    """
    found = principal_directions(vectors, dim, "a whitening")
    return Whitening(found.mean, found.directions / np.sqrt(found.variances[:, None]), found.learnt_on)

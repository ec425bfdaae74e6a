"""Logistic regression: features in, a probability out. Deterministic, and small enough for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

RIDGE = 1.0  # a weight of one standard deviation costs as much as half a case: keeps separable data finite
STEPS = 500


@dataclass(frozen=True)
class Logistic:
    """p = 1 / (1 + exp(-(bias + weights . (x - mean) / scale))), with no weight below zero.

    More of every feature speaks for the answer, so more of it never lowers the probability. That matters where new
    cases differ a little from the fitted ones: a photo of an index that queries the others finds one photo less of its
    place than a new photo does.

    Attributes:
        mean, scale: of each feature, among the cases that it was fitted on.
        weights: of each feature in units of its scale.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:  # (M, F) -> (M,)
        scaled = (features - np.array(self.mean)) / np.array(self.scale)
        return _sigmoid(scaled @ np.array(self.weights) + self.bias)

    @classmethod
    def fit(
        cls,
        features: NDArray[np.float64],  # (M, F)
        happened: NDArray[np.bool_],  # (M,)
        case_weights: NDArray[np.float64],  # (M,)
    ) -> Self:
        """Maximise the likelihood minus a ridge. Where all cases agree, the probability is near 0 or 1."""
        from scipy.optimize import minimize

        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-9] = 1.0
        x = np.column_stack([(features - mean) / scale, np.ones(len(features))])  # (M, F + 1)
        ridge = np.array([RIDGE] * features.shape[1] + [1e-3])
        sign = np.where(happened, 1.0, -1.0)

        def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            z = x @ w
            value = (case_weights * np.logaddexp(0, -sign * z)).sum() + 0.5 * (ridge * w**2).sum()
            return float(value), x.T @ (case_weights * (_sigmoid(z) - happened)) + ridge * w

        bounds = [(0, None)] * features.shape[1] + [(None, None)]
        how = {"maxiter": STEPS, "ftol": 1e-14, "gtol": 1e-8}
        w = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options=how).x
        return cls(tuple(mean.tolist()), tuple(scale.tolist()), tuple(w[:-1].tolist()), float(w[-1]))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    p: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(x, -40, 40)))
    return p

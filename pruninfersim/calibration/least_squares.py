"""The numerical side of calibration: robust log-space least squares, folds by shape, pair correlations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pruninfersim._util.arrays import FloatArray

#: Log residual at which the Cauchy loss starts to discount a row.
SCALE = 0.05
#: Relative change of cost or parameters at which a fit ends: far below any standard error.
TOLERANCE = 1e-5
#: Pairs of shapes further apart than this factor say little about pruning one to the other.
FARTHEST_PAIR = 8.0
#: Normal quantile of the 90 % interval, to turn a 5-95 % range into a standard deviation.
Z90 = 1.6449


@dataclass(frozen=True)
class Fit:
    """Result of one least-squares fit: values, and relative standard errors (standard errors of the logs)."""

    values: FloatArray
    log_errors: FloatArray
    cost: float


def fit_logs(
    residual: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    *,
    centre: FloatArray | None = None,
    prior_sd: float | FloatArray | None = None,
    evaluations: int = 40,
) -> Fit:
    """Minimise the Cauchy loss of `residual` over positive parameters, in log space within bounds.

    Parameters
    ----------
    residual : callable
        Parameters, shape (p,) -> log residuals, shape (r,).
    start, lower, upper : ndarray, shape (p,)
        All positive.
    centre : ndarray, shape (p,), optional
        Centre of the prior; default is `start`.
    prior_sd : float or ndarray, shape (p,), optional
        Standard deviation of a normal prior on each log parameter; default is no prior.
    evaluations : int
        Most function evaluations, those for the Jacobian not counted.
    """
    low, high = np.log(lower), np.log(upper)
    first = np.clip(np.log(start), low + 1e-6 * (high - low), high - 1e-6 * (high - low))
    middle = np.log(start if centre is None else centre)
    rows = residual(np.exp(first)).size

    def function(logs: FloatArray) -> FloatArray:
        data = residual(np.exp(logs))
        return data if prior_sd is None else np.concatenate([data, SCALE * (logs - middle) / prior_sd])

    def loss(z: FloatArray) -> FloatArray:
        """Cauchy on the data rows, plain squares on the rows of the prior."""
        rho = np.stack([np.log1p(z), 1.0 / (1.0 + z), -1.0 / (1.0 + z) ** 2])
        rho[:, rows:] = np.stack([z[rows:], np.ones(z.size - rows), np.zeros(z.size - rows)])
        return rho

    result = least_squares(
        function,
        first,
        bounds=(low, high),
        loss=loss,
        f_scale=SCALE,
        diff_step=1e-3,
        x_scale=0.3,
        ftol=TOLERANCE,
        xtol=TOLERANCE,
        max_nfev=evaluations,
    )
    r = function(result.x)
    weight = 1.0 / (1.0 + (r / SCALE) ** 2)
    weight[rows:] = 1.0
    jacobian = result.jac  # scipy's is scaled by the robust loss already
    scale2 = float((weight * r**2).sum() / max(1.0, weight.sum() - start.size))
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * scale2
    return Fit(np.exp(result.x), np.sqrt(np.maximum(np.diag(covariance), 0.0)), float(result.cost))


def folds(frame: pd.DataFrame, group: tuple[str, ...], count: int) -> NDArray[np.int64]:
    """Assign rows to folds, shape (row,); rows that agree in the `group` columns stay together."""
    keys = frame.groupby(list(group), sort=True).ngroup().to_numpy()
    distinct = int(keys.max()) + 1
    order = np.random.default_rng(0).permutation(distinct)
    return np.asarray((order % min(count, distinct))[keys], dtype=np.int64)


def pairs(frame: pd.DataFrame, axis: str, same: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return index pairs (larger, smaller) of rows that differ in `axis` only, at most `FARTHEST_PAIR` apart."""
    large: list[NDArray[np.int64]] = []
    small: list[NDArray[np.int64]] = []
    values = frame[axis].to_numpy(dtype=np.float64)
    for rows in frame.groupby(list(same), sort=False).indices.values():
        order = np.asarray(rows)[np.argsort(values[rows], kind="stable")]
        i, j = np.triu_indices(order.size, 1)
        near = (values[order[i]] < values[order[j]]) & (values[order[j]] <= FARTHEST_PAIR * values[order[i]])
        small.append(order[i[near]])
        large.append(order[j[near]])
    if not large:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate(large), np.concatenate(small)


def range90(values: FloatArray) -> float:
    """Return the 5-95 % range of `values` as the standard deviation of a normal with that range."""
    low, high = np.quantile(values, [0.05, 0.95])
    return float((high - low) / (2.0 * Z90))


def pair_correlation(residual: FloatArray, large: NDArray[np.int64], small: NDArray[np.int64]) -> float:
    """Return the correlation that makes ``sd(ratio)^2 = 2 sd^2 (1 - rho)`` hold for 90 % ranges, in [0, 0.95]."""
    single = range90(residual)
    if large.size < 10 or single == 0.0:
        return 0.0
    ratio = range90(residual[large] - residual[small])
    return float(np.clip(1.0 - 0.5 * (ratio / single) ** 2, 0.0, 0.95))


def mape(residual: FloatArray) -> float:
    """Return the mean absolute error of predictions, from log(measured / predicted), as a fraction."""
    return float(np.mean(np.abs(np.expm1(-residual))))

"""How errors add up in a step and cancel in a ratio, against closed forms and simulated errors."""

from __future__ import annotations

import numpy as np
import pytest

from pruninfersim.cost import EXACT, Spread
from pruninfersim.cost.uncertainty import PRODUCT_COLUMNS, Errors, ratio_half_width

SHARE = np.array([0.5, 0.3, 0.2])


def step(common: float, width: float = 0.1, share=SHARE, groups=("gemm",) * 3) -> Errors:
    return of(share, [Spread(-width, width, common)] * 3, groups)


def of(share, spreads, groups) -> Errors:
    """Errors of ops with these shares of a step of 7 s."""
    seconds = 7.0 * np.asarray(share)
    return Errors(lambda: seconds, np.full(seconds.shape[:-1], 7.0), spreads, groups, np.arange(len(groups)))


def test_independent_errors_add_in_quadrature():
    low, high = step(0.0).band()
    assert high == pytest.approx(0.1 * np.sqrt((SHARE**2).sum()))
    assert low == pytest.approx(-high)


def test_common_errors_add_up_in_full():
    assert step(1.0).band()[1] == pytest.approx(0.1)


def test_groups_are_independent_of_each_other():
    assert step(1.0, groups=("a", "b", "c")).band()[1] == pytest.approx(0.1 * np.sqrt((SHARE**2).sum()))


def test_bands_need_not_be_symmetric():
    low, high = of([1.0], [Spread(-0.3, 0.1, 0.5)], ["g"]).band()
    assert (low, high) == (pytest.approx(-0.3), pytest.approx(0.1))


def test_a_definition_has_no_error():
    errors = of(SHARE, [EXACT] * 3, ["g"] * 3)
    assert errors.band() == (0.0, 0.0)
    assert ratio_half_width(errors, errors, np.ones(3, bool), [0, 1, 2]) == 0.0


@pytest.mark.parametrize("common", [0.0, 0.4, 1.0])
def test_the_ratio_of_a_step_to_itself_is_certain(common):
    one = step(common)
    assert ratio_half_width(one, one, np.ones(3, bool), [0, 1, 2]) == pytest.approx(0.0, abs=1e-9)


def test_what_all_shapes_share_cancels_between_different_shapes():
    assert ratio_half_width(step(1.0), step(1.0), np.zeros(3, bool), [0, 0, 0]) == pytest.approx(0.0, abs=1e-9)
    apart = ratio_half_width(step(0.0), step(0.0), np.zeros(3, bool), [0, 0, 0])
    assert apart == pytest.approx(0.1 * np.sqrt(2 * (SHARE**2).sum()))


def test_a_ratio_is_never_less_certain_than_two_independent_sides():
    for common in np.linspace(0, 1, 5):
        top, bottom = step(common), step(common, share=[0.2, 0.2, 0.6])
        apart = np.hypot(top.band()[1], bottom.band()[1])
        for same in (np.zeros(3, bool), np.ones(3, bool)):
            assert ratio_half_width(top, bottom, same, [0, 1, 2]) <= apart * (1 + 1e-12)


def test_widened():
    assert Spread(-0.1, 0.2, 0.5).widened(3) == Spread(-0.1 * 3, 0.2 * 3, 0.5)
    assert Spread(-0.1, 0.3).half_width == pytest.approx(0.2)


def test_sweeps_broadcast():
    share = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    many = step(0.5, share=share)
    half = ratio_half_width(step(0.5), many, np.zeros((2, 3), bool), [0, 1, 2])
    assert half.shape == many.band()[0].shape == (2,)
    for i in range(2):
        alone = ratio_half_width(step(0.5), step(0.5, share=share[i]), np.zeros(3, bool), [0, 1, 2])
        assert half[i] == pytest.approx(float(alone))


@pytest.mark.parametrize("common", [0.0, 0.5, 0.9])
def test_simulated_errors_fall_inside_the_bands_nine_times_in_ten(common):
    """Gaussian errors with the stated correlation, drawn and added up: 90 % coverage of the sum and of the ratio."""
    rng = np.random.default_rng(7)
    quantile = 1.6448536269514722  # of the standard normal at 95 %
    width, draws = 0.02, 40_000
    shares = SHARE, np.array([0.1, 0.3, 0.6])  # middle op: the same shape on both sides
    shared = rng.standard_normal(draws)[:, None]
    own_top = rng.standard_normal((draws, 3))
    own_bottom = rng.standard_normal((draws, 3))
    own_bottom[:, 1] = own_top[:, 1]
    logs = []
    for share, own in zip(shares, (own_top, own_bottom), strict=True):
        error = width / quantile * (np.sqrt(common) * shared + np.sqrt(1 - common) * own)
        logs.append(np.log((share * np.exp(error)).sum(axis=1)))
    top, bottom = (step(common, width, share) for share in shares)
    low, high = top.band()
    assert np.mean((logs[0] > low) & (logs[0] < high)) == pytest.approx(0.9, abs=0.01)
    half = ratio_half_width(top, bottom, np.array([False, True, False]), [0, 1, 2])
    assert np.mean(np.abs(logs[0] - logs[1]) < half) == pytest.approx(0.9, abs=0.01)


def test_ops_that_are_alike_at_some_points_only_cancel_there():
    share = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2]])
    same = np.array([[True, False, True], [False, False, True], [True, True, True]])
    half = ratio_half_width(step(0.3), step(0.3, share=share), same, [0, 1, 2])
    alone = [ratio_half_width(step(0.3), step(0.3, share=share[i]), same[i], [0, 1, 2]) for i in range(3)]
    np.testing.assert_allclose(half, alone, rtol=1e-12)
    assert half[2] == 0.0  # equal shares of equal ops: exactly nothing is left


def test_long_sweeps_add_up_in_pieces_to_the_same():
    share = np.random.default_rng(11).dirichlet(np.ones(3), (3, PRODUCT_COLUMNS))
    many = step(0.4, share=share)
    points = [(0, 0), (1, PRODUCT_COLUMNS - 1), (2, 5), (2, PRODUCT_COLUMNS - 1)]
    for found, at in zip(many.band(), (0, 1), strict=True):
        np.testing.assert_allclose([found[p] for p in points], [step(0.4, share=share[p]).band()[at] for p in points])
    half = ratio_half_width(step(0.4), many, np.array([True, False, False]), [0, 1, 2])
    assert half.shape == share.shape[:-1]
    for p in points:
        alone = ratio_half_width(step(0.4), step(0.4, share=share[p]), np.array([True, False, False]), [0, 1, 2])
        assert half[p] == pytest.approx(float(alone), rel=1e-12)

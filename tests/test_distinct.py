"""Distinct shapes: every op gets its own shape back, each shape once, along whatever axes the columns vary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import FAMILIES

import pruninfersim as pis
from pruninfersim.cost.distinct import Shapes, distinct
from pruninfersim.kernels.base import roofline
from pruninfersim.trace import SHAPE_COLUMNS, SMALL, OpTrace

H100 = pis.hardware.get("h100-sxm")


def table(ops: OpTrace) -> np.ndarray:
    """All shape columns of all ops, shape (*sweep, op, column)."""
    return np.stack([np.broadcast_to(getattr(ops, name), ops.shape) for name in SHAPE_COLUMNS], axis=-1)


def check(ops: OpTrace) -> int:
    """Each op finds its own columns in the shapes, and no shape is there twice; return how many there are."""
    shapes, index = distinct(ops)
    listed = table(shapes).reshape(-1, len(SHAPE_COLUMNS))
    np.testing.assert_array_equal(listed[np.broadcast_to(index, ops.shape)], table(ops))
    assert len(np.unique(listed, axis=0)) == len(listed)
    assert set(np.unique(index)) == set(range(len(listed)))
    return len(listed)


def ops(**columns) -> OpTrace:
    """Two GEMMs with the given columns."""
    return OpTrace.from_rows([{"kernel": "gemm", "gemms": 1.0, **columns}, {"kernel": "gemm", "gemms": 1.0, **columns}])


def test_equal_ops_are_one_shape():
    assert check(ops()) == 1
    assert check(ops(m=[5, 5, 5])) == 1


def test_columns_on_different_axes_give_their_product():
    m, n = np.array([1, 8, 8, 3, 1])[:, None, None], np.array([16, 32, 16])[:, None]
    k = np.array([64, 64])
    assert check(ops(m=m, n=n, k=k)) == 3 * 2


def test_columns_on_one_axis_give_their_combinations():
    assert check(ops(m=[1, 8, 8, 1, 1], n=[16, 16, 32, 16, 32])) == 4


def test_a_column_over_both_axes_ties_them_together():
    m = np.array([1.0, 8.0, 1.0])[:, None]
    keep = np.array([0.0, 0.5])
    assert check(ops(m=m, n=[16, 32], b_reads=1 - keep**m)) == 2 + 2


def test_many_values_are_told_apart():
    draw = np.random.default_rng(5)
    columns = {name: draw.integers(1, 40, (60, 7)) for name in ("m", "n", "k", "batch", "sequences")}
    count = len(np.unique(np.stack(list(columns.values()), axis=-1).reshape(-1, 5), axis=0))
    assert check(ops(**columns)) == count


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_shapes_of_a_pruned_trace_price_each_op_as_it_would_be_alone(family, phase):
    workload = pis.Workload.of(phase, batch=np.array([1, 2, 9])[:, None, None], context=np.array([64, 700])[:, None])
    dense = pis.trace("qwen3-14b", workload)
    pruned = dense.prune(pis.pruning.get(family, [0.0, 0.25, 0.5]))
    for known in (None, dense):
        shapes = Shapes.of(pruned, known)
        assert math.prod(pruned.shape) > SMALL
        priced = np.full(pruned.shape, np.nan)
        if shapes.old is not None:
            priced[..., shapes.old.which] = roofline(known, H100)[..., shapes.partner]
        for (index, _), distinct_ones, place in shapes.groups:
            each = np.broadcast_to(roofline(distinct_ones, H100), distinct_ones.shape).reshape(-1)
            priced[..., index] = each[place]
        np.testing.assert_allclose(priced, np.broadcast_to(roofline(pruned, H100), pruned.shape), rtol=1e-14)

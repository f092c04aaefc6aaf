"""No prediction moves unless somebody says so: 7 families, 12 GPUs, 3 stacks, sweeps, waterfalls, kernels, fits."""

from __future__ import annotations

import pytest

from tests.predictions import kept


@pytest.mark.slow
def test_predictions_are_those_that_are_kept():
    moved = kept.moved(kept.read(), kept.now())
    assert moved.empty, (
        f"{len(moved)} predictions moved. If they should, say so in CHANGELOG.md with their size "
        f"(python -m tests.predictions) and keep the new ones (--write).\n{kept.by_kind(moved)}"
    )

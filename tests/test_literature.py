"""The page on the literature is what its table and the stack say, and the prediction is worth a reader's time."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKE = runpy.run_path(str(ROOT / "docs" / "make_literature_page.py"))


@pytest.fixture(scope="module")
def found():
    return MAKE["everything"]()


def test_the_page_is_up_to_date(found):
    page = (ROOT / "docs" / "literature.md").read_text(encoding="utf-8")
    assert page == MAKE["page"](found), "run docs/make_literature_page.py"


def test_rows_of_high_confidence_are_met(found):
    high = [one for one in found[0] if one.row["confidence"] == "high"]
    assert len(high) >= 60
    assert np.median([abs(one.error) for one in high]) <= 0.10
    assert np.mean([one.inside for one in high]) >= 0.80


def test_every_row_is_compared_or_says_why_not(found):
    compared, left = found
    assert len(compared) + len(left) == len(MAKE["rows"]()) > 380
    assert len(compared) >= 130
    assert all(row["reason"] for row in left)


def test_macko_is_what_its_format_stores(found):
    """Bytes alone say what a kernel reaches that reads weights as steps of 4 bits."""
    errors = [one.error for one in found[0] if one.row["family"] == "unstructured"]
    assert len(errors) == 8
    assert np.max(np.abs(errors)) <= 0.07
    assert np.median(np.abs(errors)) <= 0.015

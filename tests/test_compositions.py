"""Every pair of methods works, works in one order, or is refused with a reason that names both and is no circle."""

from __future__ import annotations

import re
import runpy

import pytest
from conftest import ROOT

import pruninfersim as pis

MAKE = runpy.run_path(str(ROOT / "docs" / "make_composition_page.py"))


@pytest.fixture(scope="module")
def found():
    return MAKE["outcomes"]()


def test_the_page_is_up_to_date(found):
    page = (ROOT / "docs" / "methods" / "compositions.md").read_text(encoding="utf-8")
    assert page == MAKE["page"](found), "run docs/make_composition_page.py"


def test_every_method_with_a_name_is_on_it():
    assert set(pis.pruning.names(every=True)) <= set(MAKE["METHODS"])
    assert all(name == method.name for name, method in MAKE["METHODS"].items())


def test_a_refusal_names_both_methods(found):
    refused = {pair: why for pair, why in found.items() if isinstance(why, str)}
    assert refused
    for (first, second), why in refused.items():
        assert first in why, (first, second)
        assert second in why, (first, second)


def test_advice_is_no_circle(found):
    for (first, second), why in found.items():
        if not isinstance(why, str):
            continue
        advised = re.search(r"Apply ([\w-]+) first, and ([\w-]+) after it", why)
        if advised:
            assert advised.groups() == (second, first)
            assert not isinstance(found[second, first], str), f"{second} before {first} is advised and refused"
        else:
            assert isinstance(found[second, first], str), f"{first} after {second} works, and nobody says so"


def test_what_works_prices_everywhere(found):
    """A pair that works is priced by the stacks that have its kernels."""
    for (first, second), outcome in found.items():
        if not isinstance(outcome, str):
            setup = pis.Setup(MAKE["model"](first, second), "rtx-5090", "ideal")
            methods = [MAKE["METHODS"][first], MAKE["METHODS"][second]]
            assert setup.speedup(methods, pis.Workload.decode(4, 8192)).estimated > 0.3

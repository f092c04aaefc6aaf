"""Quality against speed: curves made by hand, and the rule and the findings of the reference paper."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cases import FAMILIES
from hypothesis import given
from hypothesis import strategies as st

from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.questions import pareto

#: Mean measured prefill speedup of arXiv 2606.09080, Table 2 (Llama-3.1-8B, RTX PRO 6000).
PREFILL = {
    ("static-depth", 0.25): 1.29, ("static-depth", 0.5): 1.88,
    ("low-rank", 0.25): 1.15, ("low-rank", 0.5): 1.43,
    ("semi-structured", 0.5): 1.08,
    ("static-width", 0.25): 1.27, ("static-width", 0.5): 1.77,
    ("static-width-cross", 0.25): 1.13, ("static-width-cross", 0.5): 1.59,
    ("dynamic-depth", 0.25): 1.08, ("dynamic-depth", 0.5): 1.44,
    ("sparse-attention", 0.25): 1.02, ("sparse-attention", 0.5): 1.05,
}  # fmt: skip


def curve(family: str, *points: tuple[float, float]) -> pareto.Curve:
    gap, speed = zip((0.0, 1.0), *points, strict=True)
    return pareto.Curve(family, np.array(gap), np.array(speed))


def two() -> dict[str, pareto.Curve]:
    """a: 1 to 2 over 10 %. b: 1 to 1.2 over 4 %, then to 3 at 8 %. They cross where 1 + g/10 = 1.2 + 0.45 (g - 4)."""
    return {"a": curve("a", (10.0, 2.0)), "b": curve("b", (4.0, 1.2), (8.0, 3.0))}


def test_curves_start_without_loss_and_without_gain():
    for family, one in pareto.curves(pareto.published_quality(), lambda *_: 1.5).items():
        assert (one.gap[0], one.speed[0]) == (0.0, 1.0)
        assert (np.diff(one.gap) >= 0).all()
        assert family in FAMILIES


def test_curve_takes_the_best_method_of_a_family_at_each_sparsity():
    table = pd.DataFrame(
        {
            "method": ["x", "y", "x", "y"],
            "family": ["low-rank"] * 4,
            "sparsity": [0.25, 0.25, 0.5, 0.5],
            "gap_percent": [5.0, 4.0, 9.0, 12.0],
        }
    )
    speeds = {("low-rank", 0.25): 1.2, ("low-rank", 0.5): 1.6}
    one = pareto.curves(table, speeds)["low-rank"]
    assert one.gap.tolist() == [0.0, 4.0, 9.0]
    assert one.speed.tolist() == [1.0, 1.2, 1.6]


def test_between_points_a_curve_is_a_line_and_beyond_it_is_unknown():
    one = curve("a", (10.0, 2.0))
    np.testing.assert_allclose(one.at([0, 2.5, 10]), [1, 1.25, 2])
    assert np.isnan(one.at(10.1))
    assert one.at(np.zeros((2, 3))).shape == (2, 3)


def test_frontier_is_the_highest_curve():
    best = pareto.frontier(two(), largest_gap=8.0)
    for gap, speed, family in zip(best.gap, best.speed, best.family, strict=True):
        heights = {name: float(one.at(gap)) for name, one in two().items()}
        assert speed == pytest.approx(np.nanmax(list(heights.values())), rel=1e-12)
        assert heights[family] == pytest.approx(speed, rel=1e-12)


def test_transition_is_where_the_curves_cross():
    best = pareto.frontier(two())
    crossing = (1.2 - 0.45 * 4 - 1) / (0.1 - 0.45)
    ((gap, before, after),) = best.transitions
    assert (before, after) == ("a", "b")
    assert gap - pareto.STEP <= crossing <= gap
    assert best.gap[-1] > 8.0  # b has no point beyond, but nobody has to lose more to be as fast


def test_hypervolume_of_a_triangle():
    assert pareto.frontier({"a": curve("a", (10.0, 2.0))}).hypervolume == pytest.approx(5.0, rel=1e-12)


def test_largest_gap_cuts_the_frontier():
    best = pareto.frontier(two(), largest_gap=3.0)
    assert best.gap[-1] == 3.0
    assert set(best.family) == {"a"}


def test_frontier_of_nothing_is_an_error():
    with pytest.raises(InvalidInputError, match="at least one"):
        pareto.frontier({})


@pytest.mark.parametrize(
    ("limit", "name", "speed"), [(0.0, "a", 1.0), (2.0, "a", 1.2), (8.0, "b", 3.0), (50, "b", 3.0)]
)
def test_best_method_within_a_loss(limit, name, speed):
    found = pareto.best_method(two(), limit)
    assert found[1] == pytest.approx(speed, rel=1e-12)
    if limit > 0:
        assert found[0] == name


def test_a_curve_that_falls_keeps_its_best_point():
    falling = {"a": curve("a", (1.0, 1.5), (2.0, 1.1))}
    assert pareto.best_method(falling, 2.0) == ("a", 1.5)


def test_a_negative_loss_is_an_error():
    with pytest.raises(InvalidInputError, match="max_gap"):
        pareto.best_method(two(), -1.0)


# --- the paper --------------------------------------------------------------------------------------------------


def test_published_quality_has_the_losses_of_the_papers_table_2():
    """Smallest loss per family at 25 and 50 %: arXiv 2606.09080, Table 2, first columns of each half."""
    table = pareto.published_quality()
    best = table.groupby(["family", "sparsity"]).gap_percent.min()
    expected = {
        ("low-rank", 0.25): 6.7, ("low-rank", 0.5): 20.5, ("semi-structured", 0.5): 11.2,
        ("dynamic-depth", 0.25): 4.0, ("dynamic-depth", 0.5): 15.6, ("static-depth", 0.25): 10.9,
        ("static-depth", 0.5): 30.8, ("static-width", 0.25): 12.7, ("static-width", 0.5): 26.4,
    }  # fmt: skip
    for key, gap in expected.items():
        assert best[key] == pytest.approx(gap, abs=0.06), key


def test_the_papers_rule_on_its_own_speedups_gives_its_frontier():
    """Finding 2 of arXiv 2606.09080: static M, then dynamic M, then static NK; the other families are off it.

    With the two sparsities of Table 2 alone the curves are coarser than the paper's (four sparsities), so that only
    the order of the leaders and who never leads is asserted, not the losses at which they change.
    """
    table = pareto.published_quality()
    measured = table[[(row.family, row.sparsity) in PREFILL for row in table.itertuples()]]
    best = pareto.frontier(pareto.curves(measured, PREFILL), largest_gap=26.0)
    assert list(dict.fromkeys(best.family)) == ["static-depth", "dynamic-depth", "static-width"]
    leader = dict(zip(best.gap.round(1), best.family, strict=True))
    assert leader[2.0] == "static-depth"
    assert leader[12.0] == leader[15.5] == "dynamic-depth"
    assert leader[25.0] == leader[26.0] == "static-width"


# --- tables of one's own ----------------------------------------------------------------------------------------

GOOD = "# mine\nmethod,family,sparsity,gap_percent,note\nA,low-rank,0.25,3.5,x\nB,static-width,0.5,7,y\n"


def test_a_table_of_ones_own(tmp_path):
    (tmp_path / "mine.csv").write_text(GOOD)
    table = pareto.read_quality(tmp_path / "mine.csv")
    assert table.columns.tolist() == ["method", "family", "sparsity", "gap_percent", "note"]
    assert set(pareto.curves(table, lambda *_: 1.2)) == {"low-rank", "static-width"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method,family,sparsity\nA,low-rank,0.25\n", "gap_percent"),
        ("method,family,sparsity,gap_percent\nA,lowrank,0.25,3\n", "lowrank"),
        ("method,family,sparsity,gap_percent\nA,low-rank,1.25,3\n", "sparsity"),
        ("method,family,sparsity,gap_percent\nA,low-rank,0.25,-3\n", "gap_percent"),
        ("method,family,sparsity,gap_percent\nA,low-rank,0.25,\n", "gap_percent"),
        ("", "mine.csv"),
    ],
)
def test_a_wrong_table_is_named(tmp_path, text, words):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(FileFormatError, match=words) as error:
        pareto.read_quality(tmp_path / "mine.csv")
    assert "mine.csv" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"none\.csv"):
        pareto.read_quality(tmp_path / "none.csv")


@given(
    st.lists(st.lists(st.tuples(st.floats(0.1, 40), st.floats(0.5, 3)), min_size=1, max_size=4), min_size=1, max_size=4)
)
def test_less_loss_asked_never_gives_more_speed(points):
    families = {str(i): curve(str(i), *sorted(part, key=lambda point: point[0])) for i, part in enumerate(points)}
    best = pareto.frontier(families)
    assert (np.diff(best.speed) >= 0).all()
    assert best.speed[0] == 1.0
    for gap, speed in zip(best.gap[::20], best.speed[::20], strict=True):
        assert pareto.best_method(families, gap)[1] >= speed * (1 - 1e-12)


def test_a_curve_that_has_ended_still_offers_what_it_had():
    families = {"short": curve("short", (5.0, 1.5)), "long": curve("long", (20.0, 1.2))}
    best = pareto.frontier(families)
    assert set(best.family) == {"short"}
    assert best.speed[-1] == 1.5

"""Plots: the info is right, the figure draws it, axes have units, lines differ in more than colour."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, workload
from toy import toy

import pruninfersim as pis
from pruninfersim import plots
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.ops import CATALOGUE, PARTS
from pruninfersim.plots.style import COLOURS, DASHES, SYMBOLS, translucent
from pruninfersim.questions import pareto

pytestmark = IGNORE_PROVENANCE
DENSE = pis.trace("llama-3.1-8b", workload("decode", 4, 2048))
STACK = toy()


def step(trace: pis.OpTrace = DENSE) -> pis.Estimate:
    return pis.estimate(trace, hardware="h100-sxm", stack=STACK)


def pruned(family: str = "low-rank") -> pis.OpTrace:
    return DENSE.prune(pis.pruning.get(family, 0.5))


def curves(axis: str = "sparsity", **changes):
    question = {
        "models": "llama-3.1-8b", "hardware": "h100-sxm", "workloads": pis.Workload.decode(4, 2048),
        "methods": ["static-width", "low-rank"], "sparsity": [0.5, 0.0, 0.25], "stacks": STACK,
    }  # fmt: skip
    return pis.sweep(**(question | changes))


def spec(fig) -> dict:
    """The figure as what a browser gets."""
    return json.loads(fig.to_json())


def values(array) -> list[float]:
    """The numbers of a trace, which newer versions of plotly send as base64."""
    if isinstance(array, dict):
        return np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"]).tolist()
    return list(array)


def axis_titles(fig) -> tuple[str, str]:
    layout = spec(fig)["layout"]
    return tuple(layout[axis]["title"].get("text", "") for axis in ("xaxis", "yaxis"))


def families() -> dict[str, pareto.Curve]:
    return pareto.curves(pareto.published_quality(), lambda family, s: 1 / (1 - s) ** 0.9)


def every_figure() -> dict:
    why = pis.explain(DENSE, pruned(), hardware="h100-sxm", stack=STACK)
    grid = curves(hardware=["h100-sxm", "l40s"], stacks="ideal")
    by_batch = curves(workloads=pis.Workload.decode([1, 4, 16], 2048), sparsity=0.5)
    return {
        "breakdown": plots.breakdown_figure(
            [plots.breakdown_info(step()), plots.breakdown_info(step(pruned()), "low-rank")]
        ),
        "curve": plots.curve_figure(plots.curve_info(curves())),
        "batch": plots.curve_figure(plots.curve_info(by_batch, "batch"), "batch"),
        "frontier": plots.frontier_figure(plots.frontier_info(families())),
        "heatmap": plots.heatmap_figure(plots.heatmap_info(grid)),
        "roofline": plots.roofline_figure(plots.roofline_info(step()), plots.roofline_info(step(pruned()))),
        "waterfall": plots.waterfall_figure(plots.waterfall_info(why)),
    }


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("breakdown", "time [ms]", ""),
        ("curve", "sparsity [1]", "speedup over dense [1]"),
        ("batch", "batch [sequences]", "speedup over dense [1]"),
        ("frontier", "quality loss [%]", "speedup over dense [1]"),
        ("heatmap", "", ""),
        ("roofline", "arithmetic intensity [FLOP/B]", "rate [TFLOP/s]"),
        ("waterfall", "", "time of the pruned pass [ms]"),
    ],
)
def test_axes_have_units(name, x, y):
    assert axis_titles(every_figure()[name]) == (x, y)


def test_figures_fit_1000_pixels_and_have_titles():
    for name, fig in every_figure().items():
        layout = spec(fig)["layout"]
        assert layout["width"] <= 960, name
        assert layout["title"]["text"], name
        assert layout["font"]["size"] >= 12, name


def test_making_a_figure_does_not_show_or_change_anything(capfd):
    info = plots.curve_info(curves())
    first, second = (spec(plots.curve_figure(info)) for _ in range(2))
    assert first == second
    assert capfd.readouterr() == ("", "")


# --- one by one -------------------------------------------------------------------------------------------------


def test_breakdown_parts_are_sums_of_ops():
    info = plots.breakdown_info(step(pruned("dynamic-depth")), "pruned")
    frame = step(pruned("dynamic-depth")).to_frame()
    gaps = float((step(pruned("dynamic-depth")).gap * pruned("dynamic-depth").count).sum())
    assert info.label == "pruned"
    assert sum(info.milliseconds.values()) == pytest.approx(frame.seconds.sum() * 1e3, rel=1e-12)
    assert info.milliseconds["launch gaps"] == pytest.approx(gaps * 1e3, rel=1e-12)
    head = frame[frame.kernel == "lm_head"]
    assert info.milliseconds["LM head"] == pytest.approx((head.seconds.sum() - 1e-6) * 1e3, rel=1e-9)
    assert "other" not in info.milliseconds, "an op has no part to belong to"


def test_every_kernel_has_a_part():
    assert {op.part for op in CATALOGUE.values()} == set(PARTS) - {"other"}


def test_breakdown_bars_add_up():
    sides = [plots.breakdown_info(step()), plots.breakdown_info(step(pruned()), "low-rank")]
    bars = [trace for trace in spec(plots.breakdown_figure(sides))["data"] if trace["type"] == "bar"]
    for i, side in enumerate((step(), step(pruned()))):
        assert sum(values(bar["x"])[i] for bar in bars) == pytest.approx(side.latency * 1e3, rel=1e-12)
    assert len({bar["marker"]["pattern"]["shape"] for bar in bars}) == len(bars)


def test_curves_are_rows_of_the_sweep_in_order():
    frame = curves()
    lines = plots.curve_info(frame)
    assert [line.method for line in lines] == ["static-width", "low-rank"]
    for line in lines:
        rows = frame[frame.method == line.method].sort_values("sparsity")
        assert line.x.tolist() == [0.0, 0.25, 0.5]
        columns = {"estimated": "estimated_speedup", "low": "estimated_low", "high": "estimated_high"}
        for name, column in (columns | {"bound": "bound_speedup", "claim": "claim"}).items():
            np.testing.assert_array_equal(getattr(line, name), rows[column])


def test_curve_figure_has_bands_lines_and_the_claim():
    info = plots.curve_info(curves())
    data = spec(plots.curve_figure(info))["data"]
    claim = next(trace for trace in data if trace["name"] == "1/(1-s)")
    np.testing.assert_allclose(values(claim["y"]), [1, 4 / 3, 2])
    bands = [trace for trace in data if trace.get("fill") == "toself"]
    lines = [trace for trace in data if trace.get("mode") == "lines+markers"]
    assert len(bands) == len(lines) == 2
    for band, line, one in zip(bands, lines, info, strict=True):
        assert values(band["y"]) == [*one.high, *one.low[::-1]]
        assert band["mode"] == "lines"
        assert values(line["y"]) == one.estimated.tolist()
        assert "90 %" in line["hovertemplate"]
    for look in ("color", "dash"):
        assert len({line["line"][look] for line in lines}) == 2
    assert len({line["marker"]["symbol"] for line in lines}) == 2


def test_claim_is_only_drawn_over_sparsity():
    by_batch = curves(workloads=pis.Workload.decode([1, 4, 16], 2048), sparsity=0.5)
    fig = spec(plots.curve_figure(plots.curve_info(by_batch, "batch"), "batch"))
    assert "1/(1-s)" not in [trace.get("name") for trace in fig["data"]]
    assert fig["layout"]["xaxis"]["type"] == "log"
    assert fig["layout"]["xaxis"]["ticktext"] == ["1", "4", "16"]


def test_curves_of_two_gpus_are_lines_of_their_own():
    frame = curves(hardware=["h100-sxm", "l40s"], stacks="ideal")
    info = plots.curve_info(frame)
    assert len({line.label for line in info}) == len(info) == 4
    with pytest.raises(InvalidInputError, match="select some"):
        plots.curve_info([frame, frame])
    with pytest.raises(UnknownNameError, match="sparsity"):
        plots.curve_info(frame, "sparsty")


def test_frontier_info_and_figure():
    info = plots.frontier_info(families())
    assert [curve.family for curve in info.curves] == list(families())
    data = spec(plots.frontier_figure(info))
    names = [trace["name"] for trace in data["data"]]
    assert names[0] == "frontier"
    assert set(names[1:]) == set(families())
    assert len(data["layout"]["shapes"]) == len(info.best.transitions)
    assert all(shape["line"]["width"] > 0 for shape in data["layout"]["shapes"])


def test_heatmap_is_the_geometric_mean():
    frame = curves(hardware=["h100-sxm", "l40s"], workloads=pis.Workload.decode([1, 64]), stacks="ideal")
    info = plots.heatmap_info(frame)
    assert info.methods == ("static-width", "low-rank")
    assert info.columns == ("h100-sxm", "l40s")
    rows = frame[(frame.method == "low-rank") & (frame.hardware == "l40s")]
    assert info.speedup[1, 1] == pytest.approx(np.prod(rows.estimated_speedup) ** (1 / len(rows)), rel=1e-12)
    (heat,) = spec(plots.heatmap_figure(info))["data"]
    assert heat["text"][1][1] == f"{info.speedup[1, 1]:.2f}"
    assert "[1]" in spec(plots.heatmap_figure(info))["layout"]["coloraxis"]["colorbar"]["title"]["text"]


def test_heatmap_across_another_column_keeps_the_order_of_the_frame():
    frame = curves(workloads=pis.Workload.decode([64, 1, 16]), sparsity=0.5, methods=FAMILIES)
    info = plots.heatmap_info(frame, "batch")
    assert info.columns == ("64", "1", "16")
    assert info.methods == FAMILIES
    assert spec(plots.heatmap_figure(info, "batch [sequences]"))["layout"]["xaxis"]["type"] == "category"
    with pytest.raises(UnknownNameError, match="hardware"):
        plots.heatmap_info(frame, "hardwear")


def test_roofline_points_are_flops_over_bytes_and_seconds():
    info = plots.roofline_info(step())
    frame = step().to_frame().set_index("name")
    for i, name in enumerate(info.names):
        row = frame.loc[name]
        assert info.intensity[i] == pytest.approx(row.flops / row.bytes, rel=1e-12)
        assert info.rate[i] == pytest.approx(row.flops / row.seconds, rel=1e-12)
        assert info.share[i] == pytest.approx(row.share, rel=1e-12)
    gpu = pis.hardware.get("h100-sxm")
    assert (info.peak, info.bandwidth, info.ridge) == (gpu.peak["bf16"], gpu.memory_bandwidth, gpu.ridge_point("bf16"))
    assert set(info.names) == {"q", "k", "v", "attention", "o", "gate", "up", "down", "lm_head"}


def test_no_op_is_above_the_roofline():
    for stack in ("ideal", STACK):
        info = plots.roofline_info(pis.estimate(DENSE, hardware="h100-sxm", stack=stack))
        roof = np.minimum(info.peak, info.intensity * info.bandwidth)
        assert (info.rate <= roof * (1 + 1e-9)).all()


def test_arrows_lead_from_dense_to_pruned():
    before, after = plots.roofline_info(step()), plots.roofline_info(step(pruned("static-width")))
    fig = spec(plots.roofline_figure(before, after))
    arrows = fig["layout"]["annotations"]
    assert len(arrows) > 0
    ends = {
        (round(np.log10(x), 9), round(np.log10(y / 1e12), 9)) for x, y in zip(after.intensity, after.rate, strict=True)
    }
    starts = {
        (round(np.log10(x), 9), round(np.log10(y / 1e12), 9))
        for x, y in zip(before.intensity, before.rate, strict=True)
    }
    for arrow in arrows:
        assert (round(arrow["x"], 9), round(arrow["y"], 9)) in ends
        assert (round(arrow["ax"], 9), round(arrow["ay"], 9)) in starts
    assert "annotations" not in spec(plots.roofline_figure(before, before))["layout"]


def test_waterfall_ends_at_the_estimate():
    why = pis.explain(DENSE, pruned(), hardware="h100-sxm", stack=STACK)
    info = plots.waterfall_info(why)
    assert info.steps == list(why.steps)
    assert sum(info.milliseconds) == pytest.approx(why.speedup.pruned.latency * 1e3, rel=1e-9)
    assert info.speedup == why.speedup.estimated
    (bars,) = spec(plots.waterfall_figure(info))["data"]
    assert values(bars["y"])[-1] == info.total_milliseconds
    assert bars["measure"] == ["absolute", *["relative"] * (len(info.steps) - 1), "total"]
    (line,) = spec(plots.waterfall_figure(info))["layout"]["shapes"]
    assert line["y0"] == line["y1"] == info.dense_milliseconds
    assert line["line"]["width"] > 0
    top = spec(plots.waterfall_figure(info))["layout"]["yaxis"]["range"][1]
    assert top > max(info.dense_milliseconds, info.total_milliseconds)


@pytest.mark.parametrize("of", [plots.breakdown_info, plots.roofline_info])
def test_a_sweep_is_not_a_pass(of):
    wide = pis.estimate(pis.trace("llama-3.1-8b", workload("decode", [1, 2])), hardware="h100-sxm", stack="ideal")
    with pytest.raises(InvalidInputError, match="sweep"):
        of(wide)


# --- colours ----------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_colours_are_those_of_okabe_and_ito():
    assert sorted(COLOURS) == sorted(
        ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
    )
    # The colours of the first families stand out from white paper (the pale yellow comes last).
    assert all((1.05) / (luminance(colour) + 0.05) >= 2.1 for colour in COLOURS[:7])


def test_seven_families_look_different_without_colour():
    looks = {(DASHES[i % len(DASHES)], SYMBOLS[i % len(SYMBOLS)]) for i in range(len(FAMILIES))}
    assert len(looks) == len(FAMILIES)
    assert re.fullmatch(r"rgba\(\d+,\d+,\d+,0\.3\)", translucent(COLOURS[0], 0.3))


@pytest.mark.parametrize("work", [pis.Workload.decode(8, 4096), pis.Workload.prefill(1, 4096)])
def test_texts_of_a_roofline_do_not_lie_on_each_other(work):
    """A line of text is about 14 px high, which is 0.15 decades of the smallest axis seen: 3 decades in 360 px."""
    result = pis.Setup("llama-3.1-70b", "h100-sxm", tp=4).compared("low-rank", 0.5, work)
    for side in spec(result.plot("roofline"))["data"][1:]:
        named = [(x, y) for x, y, text in zip(*map(values, (side["x"], side["y"], side["text"])), strict=True) if text]
        shown = [name for text in side["text"] for name in text.replace("<br>", " ").split(", ") if name]
        assert len(set(shown)) == len(shown) >= 3
        apart = [np.abs(np.log10(np.divide(a, b))).max() for i, a in enumerate(named) for b in named[:i]]
        assert all(distance > 0.15 for distance in apart)


def test_a_legend_of_many_lines_is_not_cut():
    """Kaleido draws what fits beside the plot, 31 px a line with a marker; twelve lines and the claim need 403."""
    grid = pis.sweep(model="llama-3.1-8b", hardware="h100-sxm", phase="decode", methods=["static-width", "low-rank"],
                     sparsity=[0.25, 0.5], batch=[1, 8, 64], context=[1024, 8192], stack="ideal")  # fmt: skip
    layout = plots.curve_figure(grid).layout
    assert layout.height - layout.margin.t - layout.margin.b >= 13 * 31
    assert plots.curve_figure(grid[grid.batch == 1]).layout.height == 520

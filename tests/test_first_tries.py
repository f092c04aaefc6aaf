"""What a user tries first in a notebook works, or ends in one line that says what to call instead."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from cases import IGNORE_PROVENANCE
from toy import toy

import pruninfersim as pis
from pruninfersim.calibration.nearest import nearest_calibration
from pruninfersim.errors import InvalidInputError, LeftOutWarning, PruninfersimError, UnknownNameError
from pruninfersim.plots.style import COLOURS, PLACES
from pruninfersim.questions.availability import ANSWERS, SURE

pytestmark = IGNORE_PROVENANCE
#: A question that everything below asks, of a stack whose answers are definitions.
ASK = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "phase": "decode", "batch": 16, "stack": "ideal"}
CUT = {"method": "static-width", "sparsity": 0.5}
GPUS = ["h100-sxm", "l40s", "a100-sxm-80gb"]


def one(**changes) -> pis.Speedup:
    return pis.speedup(**(ASK | CUT | changes))


def wide() -> pis.Speedup:
    return one(sparsity=[0.25, 0.5, 0.75])


def title(fig: go.Figure) -> str:
    return fig.layout.title.text


# --- results know their question --------------------------------------------------------------------------------------


def test_explain_of_a_result_is_that_of_its_sides():
    result = one()
    for why in (
        result.explain(),
        pis.explain(result),
        pis.explain(result.dense, result.pruned),
        pis.explain(**ASK, **CUT),
    ):
        assert why.steps == pytest.approx(result.explain().steps)
        assert sum(why.steps.values()) == pytest.approx(result.pruned.latency, rel=1e-12)


def test_a_repr_names_model_workload_method_gpu_and_software():
    for result in (one(), wide()):
        for word in ("llama-3.1-8b", "h100-sxm", "decode", "batch 16", "context 1024", "static-width", "ideal", "bf16"):
            assert word in repr(result)
            assert word in result._repr_html_()
            assert word in repr(result.explain())
    assert "0.25 to 0.75" in repr(wide())


def test_a_sweep_says_itself_in_every_way():
    result = wide()
    data = json.loads(json.dumps(result.to_dict()))
    assert data["estimated"] == result.estimated.tolist()
    assert data["sparsity"]["static-width"] == [0.25, 0.5, 0.75]
    assert (data["model"], data["hardware"], data["phase"]) == ("llama-3.1-8b", "h100-sxm", "decode")
    why = result.explain()
    frame = why.to_frame()
    total = frame.groupby("point").seconds.sum()
    np.testing.assert_allclose(total, result.pruned.total, rtol=1e-12)
    assert "claim" in str(why)
    assert repr(why).startswith("<Explanation of <Speedup")
    assert len(str(result).splitlines()) >= 4  # head, columns, and a line per point
    assert why._repr_html_()


def test_rows_of_a_result_are_those_of_a_sweep():
    mine = wide().to_frame()
    grid = pis.sweep(**ASK, method="static-width", sparsity=[0.25, 0.5, 0.75])
    assert set(grid.columns) <= set(mine.columns)
    for name in grid.columns:
        if grid[name].dtype == float:
            np.testing.assert_allclose(mine[name], grid[name], rtol=1e-12, err_msg=name)
        else:
            assert mine[name].tolist() == grid[name].tolist(), name


def test_a_point_of_a_sweep_is_the_single_comparison():
    at, alone = wide().at(1), one()
    assert at.estimated == pytest.approx(alone.estimated, rel=1e-12)
    assert at.interval == pytest.approx(alone.interval, rel=1e-12)
    assert at.explain().steps == pytest.approx(alone.explain().steps, abs=1e-12)
    assert at.question == alone.question
    crossed = pis.speedup(**(ASK | {"context": [1024, 4096]}), method="low-rank", sparsity=np.array([[0.25], [0.5]]))
    assert crossed.at(1, 0).estimated == pytest.approx(crossed.estimated[1, 0], rel=1e-12)
    with pytest.raises(InvalidInputError, match="no point"):
        wide().at(3)


def test_what_runs_today_is_shown_beside_a_speedup():
    result = one(method="semi-structured")
    assert any("vLLM" in note for note in result.runs_today)
    assert "vLLM" in str(result)
    assert "vLLM" in result._repr_html_()
    assert result.to_dict()["runs_today"] == list(result.runs_today)


def test_availability_is_data_with_sources():
    table = pis.availability()
    assert set(table.family) == set(pis.pruning.METHODS)
    assert set(table.runs) <= set(ANSWERS)
    told = table[table.runs != "unknown"]
    assert set(told.sure) <= set(SURE)
    assert told.source.str.startswith("https://")[told.sure == "documented"].all()
    assert (told.source != "").all()
    assert (told.date != "").all()
    with pytest.raises(UnknownNameError, match="semi-structured"):
        pis.availability("semi-structurd")


# --- one vocabulary ---------------------------------------------------------------------------------------------------


def test_lists_of_gpus_models_phases_are_results_side_by_side():
    three = one(hardware=GPUS)
    assert [r.hardware.name for r in three] == GPUS
    assert three[1].estimated == one(hardware="l40s").estimated
    assert three.to_frame().hardware.tolist() == GPUS
    assert [d["hardware"] for d in three.to_dict()] == GPUS
    assert len(three.explain()) == 3
    assert all(gpu in str(three) for gpu in GPUS)
    assert len(one(phase=["prefill", "decode"], model=["llama-3.1-8b", "qwen3-14b"])) == 4
    assert len(three[:2]) == 2


def test_method_is_a_composition_and_methods_are_alternatives():
    both = one(method=["static-width", "low-rank"])
    assert both.method == "static-width + low-rank"
    apart = pis.speedup(**ASK, methods=["static-width", pis.pruning.LowRank(0.5)], sparsity=0.5)
    assert [r.method for r in apart] == ["static-width", "low-rank"]
    with pytest.raises(InvalidInputError, match="not both"):
        one(methods=["low-rank"])


def test_a_class_of_method_takes_the_sparsity():
    assert one(method=pis.pruning.StaticWidth).estimated == one().estimated
    with pytest.raises(InvalidInputError, match="needs a sparsity"):
        pis.speedup(**ASK, method=pis.pruning.StaticWidth)


def test_sweep_understands_the_words_of_speedup():
    grid = pis.sweep(**(ASK | {"batch": [1, 16], "context": [1024, 4096]}), method="low-rank", sparsity=[0.25, 0.5])
    assert len(grid) == 8
    row = grid.query("batch == 16 and context == 1024 and sparsity == 0.5").iloc[0]
    assert row.estimated_speedup == pytest.approx(one(method="low-rank").estimated, rel=1e-12)
    both = pis.sweep(**(ASK | {"phase": ["prefill", "decode"]}), method="low-rank")
    assert set(both.phase) == {"prefill", "decode"}
    composed = pis.sweep(**ASK, method=["static-width", "low-rank"])
    assert composed.method.tolist() == ["static-width + low-rank"]


@pytest.mark.parametrize("stack", ["ideal", "paper"])
def test_sweep_and_speedup_run_the_head_on_the_same_tokens(stack):
    ask = ASK | CUT | {"phase": "prefill", "stack": stack, "hardware": "rtx-pro-6000"}
    assert pis.sweep(**ask).estimated_speedup[0] == pytest.approx(pis.speedup(**ask).estimated, rel=1e-12)


def test_two_models_are_compared():
    result = pis.compare("llama-3.1-8b", "llama-3.2-1b", hardware="h100-sxm", phase="decode", stack="ideal")
    sides = [
        pis.estimate(m, hardware="h100-sxm", phase="decode", stack="ideal") for m in ("llama-3.1-8b", "llama-3.2-1b")
    ]
    assert result.estimated == sides[0].latency / sides[1].latency
    assert "checkpoint llama-3.2-1b 0.8606, llama-3.1-8b on" in repr(result)


def test_questions_are_asked_by_names_too():
    result = one(method="semi-structured")
    by_names = ASK | CUT | {"method": "semi-structured"}
    assert pis.required_efficiency(1.2, **by_names) == pis.required_efficiency(1.2, result)
    assert pis.max_speedup(**by_names).perfect_changed == pis.max_speedup(result).perfect_changed == result.headroom
    here = pis.Setup("llama-3.1-8b", "h100-sxm", "ideal")
    assert here.speedup("static-width", 0.5, phase="decode", batch=16).estimated == one().estimated
    table = pis.suggest_width("llama-3.1-8b", hardware="h100-sxm", width=7168, within=0.01, stack="ideal", context=2048)
    assert len(table) >= 1
    ranked = pis.compare_hardware(**(ASK | {"hardware": GPUS, "phase": ["prefill", "decode"]}), method="low-rank")
    assert len(ranked) == 2 * 3 * 2


def test_memory_of_whatever_has_a_trace():
    result = one()
    weights = float(pis.memory.weight_memory(result.pruned.trace))
    assert pis.memory(result).weights == pis.memory(result.pruned).weights == weights
    assert pis.memory(result.pruned.trace).total > weights
    assert pis.memory("llama-3.1-8b", batch=16) == pis.memory(result.dense)
    with pytest.raises(InvalidInputError, match="a speedup or a model"):
        pis.memory(3)


def test_quality_table_to_best_method_in_one_step():
    table = pd.DataFrame(
        {
            "method": ["a", "b"],
            "family": ["static-width", "low-rank"],
            "sparsity": [0.5, 0.5],
            "gap_percent": [2.0, 4.0],
        }
    )
    best = pis.pareto(table, **ASK)
    assert best.family[0] == "static-width"
    assert best.speed.max() == pytest.approx(one().estimated, rel=1e-9)
    curves = pis.pareto.curves(table, **ASK)
    assert pis.pareto.best_method(curves, 3.0)[0] == "static-width"
    with pytest.raises(InvalidInputError, match="give a speed, or the question"):
        pis.pareto(table)
    with pytest.raises(PruninfersimError, match="no column"):
        pis.pareto(table.drop(columns="family"), **ASK)


def test_prefill_calls_its_tokens_context_too():
    assert pis.Workload.prefill(context=512).tokens == 512
    assert pis.Workload.prefill(context=512, prefix=128).query_len == 384
    with pytest.raises(InvalidInputError, match="not both"):
        pis.Workload.prefill(tokens=512, context=512)
    with pytest.raises(InvalidInputError, match="context"):
        pis.Workload.decode(tokens=512)


def test_a_trace_is_asked_for_by_names():
    ops = pis.trace("llama-3.1-8b", phase="decode", batch=16)
    assert float(ops.workload.batch) == 16
    both = (lambda: pis.trace("llama-3.1-8b", ops.workload, phase="decode"), "the workload says phase already")
    for call, said in ((lambda: pis.trace("llama-3.1-8b"), "needs a workload"), both):
        with pytest.raises(InvalidInputError, match=said):
            call()


def test_reproduce_is_a_name():
    assert pis.reproduce.write_reproduction


TRIES = {
    "speedup: models": (lambda: pis.speedup(**CUT, hardware="l40s", models="llama-3.1-8b"), "called model here"),
    "speedup: tokens": (lambda: one(tokens=512), "called context here"),
    "speedup: gpu": (lambda: pis.speedup(**CUT, model="llama-3.1-8b", gpu="l40s"), "called hardware here"),
    "speedup: nonsense": (lambda: one(colour=3), "It has: model, hardware"),
    "speedup: no method": (lambda: pis.speedup(**ASK), "needs method"),
    "speedup: empty list": (lambda: one(hardware=[]), "hardware is empty"),
    "sweep: both": (lambda: pis.sweep(**ASK, models="qwen3-14b"), "model or models, not both"),
    "sweep: gpu": (lambda: pis.sweep(model="qwen3-14b", gpus=["l40s"]), "called hardware here"),
    "break_even: no axis": (lambda: pis.break_even(**ASK, **CUT), "unknown axis"),
    "break_even: list": (lambda: pis.break_even("batch", **(ASK | CUT | {"hardware": GPUS})), "one hardware, not"),
    "break_even: tokens": (lambda: pis.break_even("batch", **ASK, **CUT, tokens=3), "called context here"),
    "efficiency: no target": (lambda: pis.required_efficiency(**ASK, **CUT), "the speedup that you want first"),
    "efficiency: no method": (lambda: pis.required_efficiency(1.3, **ASK), "needs a second side"),
    "compare: no gpu": (lambda: pis.compare("llama-3.1-8b", "qwen3-14b"), "needs a GPU"),
    "compare: gpus": (lambda: pis.compare(one().dense, one(hardware="l40s").pruned), "compare_hardware"),
    "explain: one side": (lambda: pis.explain(one().dense), "two estimates or two traces"),
    "explain: too much": (lambda: pis.explain(one(), hardware="l40s"), "has both sides and its GPU already"),
    "explain: list": (lambda: pis.explain(**(ASK | CUT | {"hardware": GPUS})), "one hardware, not a list"),
    "estimate: list": (lambda: pis.estimate("llama-3.1-8b", hardware=GPUS), "one hardware, not a list"),
    "estimate: again": (lambda: pis.estimate(one().dense, hardware="l40s"), "estimate already"),
    "setup: list": (lambda: pis.Setup("llama-3.1-8b", GPUS), "one hardware, not a list"),
    "plot: kind": (lambda: one().plot("pie"), "unknown kind of figure"),
    "plot: waterfall of a sweep": (lambda: wide().plot("waterfall"), r"result\.at\(0\)"),
    "plot: curve of a point": (lambda: one().plot("curve"), "needs an axis"),
    "plot: nothing": (lambda: pis.plots.plot(3), "nothing to draw"),
    "plot: waterfall of a frame": (lambda: pis.plots.waterfall_figure(wide().to_frame()), "has bars and curves"),
    "plot: roofline of a trace": (lambda: pis.plots.roofline_figure(one().dense.trace), "of an estimate"),
    "plot: frontier of a table": (lambda: pis.plots.frontier_figure(pis.pareto.published_quality()), "pareto.curves"),
    "setup: gpu": (lambda: pis.Setup("llama-3.1-8b", gpu="l40s"), "called hardware here"),
    "decode: batch_size": (lambda: pis.Workload.decode(batch_size=3), "called batch here"),
    "prefill: seq_len": (lambda: pis.Workload.prefill(seq_len=3), "called context here"),
    "gemm: gpu": (lambda: pis.gemm_latency(1, 2, 3, gpu="l40s"), "called hardware here"),
    "gemm: no gpu": (lambda: pis.gemm_latency(1, 2, 3), "needs a GPU"),
    "memory: tokens": (lambda: pis.memory("llama-3.1-8b", tokens=3), "called context here"),
    "memory: twice": (lambda: pis.memory(one(), batch=3), "leave batch out"),
    "clone: unit": (lambda: pis.hardware.get("l40s").clone("x", memory_bandwidth=8000), "SI units"),
    "clone: peak": (lambda: pis.hardware.get("l40s").clone("x", peak={"bf16": 989}), "SI units"),
    "clone: clock": (lambda: pis.hardware.get("l40s").clone("x", boost_clock=1980), "SI units"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIES)
def test_what_is_not_accepted_says_what_to_call(name):
    call, says = TRIES[name]
    with pytest.raises(PruninfersimError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_every_profile_is_within_reach():
    assert all(pis.hardware.get(name).memory_bandwidth > 1e9 for name in pis.hardware.names())


# --- plots ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "waterfall", "breakdown", "roofline", "bars"])
def test_a_result_draws_itself_and_names_its_case(kind):
    fig = one().plot(kind)
    assert isinstance(fig, go.Figure)
    assert "llama-3.1-8b on h100-sxm" in title(fig)
    assert "decode" in title(fig)


def test_estimates_explanations_frames_and_calibrations_draw_themselves():
    assert one().dense.plot().data
    assert one().dense.plot("roofline").data
    assert one().explain().plot().data[0].type == "waterfall"
    assert pis.plots.plot(wide().to_frame()).data
    fitted = nearest_calibration("gemm", "bf16", pis.hardware.get("h100-sxm"))[0]
    assert "gemm on h100-sxm" in title(fitted.plot())
    assert pis.plots.frontier_figure(pis.pareto.curves(pis.pareto.published_quality(), **ASK)).data


def test_three_gpus_in_one_curve():
    frame = pis.sweep(**(ASK | {"hardware": GPUS}), method="low-rank", sparsity=[0.1, 0.3, 0.5])
    for fig in (pis.plots.curve_figure(frame), one(hardware=GPUS, sparsity=[0.1, 0.3]).plot()):
        lines = [line for line in fig.data if line.mode == "lines+markers"]
        assert [line.name for line in lines] == GPUS
        assert len({line.line.color for line in lines}) == 3
        assert "l40s" not in title(fig)
    bars = one(hardware=GPUS).plot()
    assert list(bars.data[0].x) == GPUS


def test_colour_and_facet_by_any_column():
    ask = ASK | {"hardware": GPUS[:2], "phase": ["prefill", "decode"]}
    frame = pis.sweep(**ask, methods=["low-rank", "static-width"], sparsity=[0.1, 0.3])
    fig = pis.plots.curve_figure(frame, colour="hardware", facet="phase")
    lines = [line for line in fig.data if line.mode == "lines+markers"]
    assert len(lines) == 8
    assert {line.xaxis for line in lines} == {"x", "x2"}
    by_gpu = {gpu: {line.line.color for line in lines if gpu in line.name} for gpu in GPUS[:2]}
    assert [len(colours) for colours in by_gpu.values()] == [1, 1]
    assert by_gpu[GPUS[0]] != by_gpu[GPUS[1]]
    assert sum(line.showlegend for line in lines) == 4
    assert [note.text for note in fig.layout.annotations] == ["prefill", "decode"]
    with pytest.raises(UnknownNameError, match="phase"):
        pis.plots.curve_figure(frame, facet="phas")


def test_a_family_has_its_colour_wherever_it_stands():
    for methods in (["low-rank", "static-width"], ["static-width", "semi-structured", "low-rank"], ["low-rank"]):
        fig = pis.plots.curve_figure(pis.sweep(**ASK, methods=methods, sparsity=[0.1, 0.3]))
        for line in fig.data:
            if line.mode == "lines+markers":
                name = line.name if line.name in PLACES else "low-rank"
                assert line.line.color == COLOURS[PLACES[name]]


def test_heat_map_of_sparsity_and_context():
    frame = pis.sweep(**(ASK | {"context": [1024, 8192, 65536]}), method="low-rank", sparsity=[0.25, 0.5])
    info = pis.plots.heatmap_info(frame, "context", "sparsity")
    assert info.averaged == ()
    for i, ratio in enumerate((0.25, 0.5)):
        for j, context in enumerate((1024, 8192, 65536)):
            row = frame[(frame.sparsity == ratio) & (frame.context == context)]
            assert info.speedup[i, j] == pytest.approx(row.estimated_speedup.item(), rel=1e-12)
    fig = pis.plots.plot(frame)
    assert fig.data[0].type == "heatmap"
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("context [tokens]", "sparsity [1]")


def test_a_heat_map_has_a_panel_for_each_gpu():
    frame = pis.sweep(**(ASK | {"hardware": GPUS, "context": [1024, 8192]}), method="low-rank", sparsity=[0.25, 0.5])
    fig = pis.plots.heatmap_figure(frame, across="context", down="sparsity", facet="hardware")
    assert [note.text for note in fig.layout.annotations] == GPUS
    assert len(fig.data) == 3
    assert "mean" not in title(fig)


def test_a_heat_map_says_what_it_averages():
    frame = pis.sweep(**(ASK | {"batch": [1, 64]}), method="low-rank", sparsity=[0.25, 0.5])
    fig = pis.plots.heatmap_figure(frame)
    assert "geometric mean over batch and sparsity" in title(fig)
    assert "mean" not in title(pis.plots.heatmap_figure(frame, across="batch", down="sparsity"))


def test_roofline_points_are_named():
    texts = " ".join(one().plot("roofline").data[1].text)
    for name in ("attention", "gate", "down"):
        assert name in texts


# --- what is shown of an object ---------------------------------------------------------------------------------------


def test_reprs_are_short_and_tables_are_tables():
    cost = pis.stacks.get("vendor", pis.hardware.get("h100-sxm"))
    assert len(repr(cost)) < 200
    assert "gemm" in str(cost)
    assert "calibrated" in str(cost)
    ops = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=[1, 8]))
    assert "llama-3.1-8b" in repr(ops)
    assert "lm_head" in str(ops)
    assert len(str(ops).splitlines()) == 2 + len(ops)
    assert max(map(len, str(ops).splitlines())) <= 120
    curves = pis.pareto.curves(pis.pareto.published_quality(), **ASK)
    answers = pis.max_speedup(one()), pis.pareto.frontier(curves), *curves.values()
    for small in (pis.Workload.decode([1, 8]), cost.kernels["gemm"], *answers):
        assert len(repr(small)) < 200
        assert "array(" not in repr(small)
    fitted = nearest_calibration("gemm", "bf16", pis.hardware.get("l40s"))[0]
    assert "compute_efficiency" in str(fitted)
    assert max(map(len, str(fitted).splitlines())) <= 120
    for shown in (cost, ops, toy()):
        assert shown._repr_html_().startswith("<pre>")
        assert len(str(shown)) < 3000
    assert len(ops.to_frame()) == 2 * len(ops)


ROOMS = [name for name in pis.__all__ if type(getattr(pis, name)).__mro__[-2].__name__ == "module"]


@pytest.mark.parametrize("name", ROOMS)
def test_a_module_shows_its_public_names_only(name):
    module = getattr(pis, name)
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)


def test_records_show_no_machinery():
    for record in (pis.hardware.get("l40s"), pis.models.get("llama-3.1-8b")):
        shown = [name for name in dir(record) if not name.startswith("__")]
        assert {"clone", "name"} <= set(shown)
        assert not [name for name in shown if name.startswith(("_", "model_", "parse_", "copy", "dict", "json"))]


# --- who wins, what is left out, who is warned ------------------------------------------------------------------------


def test_break_even_says_who_wins():
    assert pis.break_even("batch", **(ASK | CUT)).winner == "static-width"
    slow = toy().with_kernel("gemm_2of4", pis.Priced(Slower(), "calibrated"))
    lost = pis.break_even("batch", **(ASK | CUT | {"method": "semi-structured", "stack": slow}), between=(1, 64))
    assert (list(lost), lost.winner) == ([], "dense")
    assert "dense wins" in repr(lost)
    even = pis.break_even("batch", **(ASK | CUT), against="static-width")
    assert even.winner == "neither"


class Slower:
    """A kernel that takes a second."""

    def latency(self, ops, hardware, *, cache="cold"):
        return np.ones(ops.shape)


def test_default_methods_leave_out_what_cannot_be_done_and_say_so():
    with pytest.warns(LeftOutWarning, match=r"sparsity 0\.75.*semi-structured removes at most 0\.5") as caught:
        grid = pis.sweep(**ASK, sparsity=[0.5, 0.75])
    assert caught[0].filename == __file__
    assert set(grid.method) == set(pis.pruning.METHODS)
    assert grid[grid.method == "semi-structured"].sparsity.tolist() == [0.5]
    assert "semi-structured" in grid.attrs["notes"][0]
    with pytest.warns(LeftOutWarning, match="peak_2of4"):
        old = pis.sweep(**(ASK | {"hardware": ["v100-sxm-16gb", "h100-sxm"]}), dtype="fp16", sparsity=0.5)
    assert set(old[old.hardware == "h100-sxm"].method) - set(old[old.hardware == "v100-sxm-16gb"].method) == {
        "semi-structured"
    }
    with pytest.warns(LeftOutWarning):
        pis.compare_hardware(**ASK, sparsity=0.75)
    with pytest.raises(InvalidInputError, match=r"0\.5"):
        pis.sweep(**ASK, methods="semi-structured", sparsity=0.75)


@pytest.mark.filterwarnings("default::pruninfersim.errors.ProvenanceWarning")
def test_a_notebook_shows_the_note_and_a_script_is_warned(monkeypatch):
    ask = {"model": "llama-3.1-8b", "hardware": "l40s", "method": "dynamic-depth", "sparsity": 0.5, "stack": "vendor"}
    with pytest.warns(pis.errors.ProvenanceWarning) as caught:
        result = pis.speedup(**ask)
    assert caught[0].filename == __file__
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = pis.speedup(**ask)
    assert again.notes == result.notes
    assert str(caught[0].message) in again._repr_html_()

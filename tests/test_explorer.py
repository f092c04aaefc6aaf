"""The explorer without its page: links, uploads, answers, and what a reader takes away."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE
from hypothesis import given
from hypothesis import strategies as st

import pruninfersim as pis
from pruninfersim.app import answers, figures, rows, texts, uploads
from pruninfersim.app.answers import Point
from pruninfersim.app.state import VIEWS, State, from_query
from pruninfersim.errors import FileFormatError, InvalidInputError, MissingValueError, PruninfersimError
from pruninfersim.pruning import spelling

SMALL = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8,
    "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32000,
}  # fmt: skip
CONFIG = uploads.packed(uploads.config_text(json.dumps(SMALL), "small.json"), "the model")
MIXED = ("static-width@0.25/0.5", "static-depth@0.25+semi-structured@0.5", "low-rank@0.4")


def states() -> st.SearchStrategy[State]:
    ratios = st.integers(0, 50).map(lambda percent: percent / 100)
    parts = st.builds(spelling.Part, st.sampled_from(["static-width", "static-depth"]), ratios, st.none() | ratios)
    several = st.lists(parts, min_size=1, max_size=3).map(lambda chosen: "+".join(map(str, chosen)))
    counts = st.integers(1, 10**6)
    return st.builds(
        State,
        model=st.sampled_from(["llama-3.1-8b", "qwen3-14b"]), config=st.sampled_from(["", CONFIG]),
        gpus=st.lists(st.sampled_from(["h100-sxm", "l40s", "t4"]), min_size=1, unique=True).map(tuple),
        stack=st.sampled_from(pis.stacks.names()), dtype=st.sampled_from(["", "fp8", "int4_wo"]),
        phase=st.sampled_from(["prefill", "decode"]), batch=counts, context=counts, prompt=counts, new_tokens=counts,
        methods=st.lists(several, min_size=1, max_size=4, unique=True).map(tuple),
        view=st.sampled_from(list(VIEWS)),
    )  # fmt: skip


# --- links ----------------------------------------------------------------------------------------------------------


@given(states())
def test_a_link_says_the_whole_state(state):
    assert from_query(state.query) == (state, {})


@given(states())
def test_rows_of_the_controls_say_all_methods(state):
    needed = sum(method.count("+") + 1 for method in state.methods)
    if needed <= len(rows.of_methods(())):
        methods, errors, _ = rows.to_methods(rows.of_methods(state.methods))
        assert (methods, errors) == (list(state.methods), {})


@given(st.text(max_size=200))
def test_no_link_raises(search):
    state, _ = from_query(search)
    assert from_query(state.query) == (state, {})


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("batch=0", "batch", "at least 1"),
        ("batch=1e400", "batch", "whole number"),
        ("batch=1&batch=2", "batch", "one value"),
        ("gpus=h100-smx", "gpus", "Did you mean 'h100-sxm'?"),
        ("gpus=", "gpus", "unknown GPU"),
        ("stack=vlm", "stack", "Did you mean 'vllm'?"),
        ("dtype=bf61", "dtype", "Did you mean 'bf16'?"),
        ("phase=decoding", "phase", "unknown phase"),
        ("methods=low-rank", "methods", "such as static-width@0.5"),
        ("methods=low-rank@1.5", "methods", "did you mean 1.5%?"),
        ("methods=semi-structured@0.75", "methods", "0.5"),
        ("methods=static-width-cross@0.2/0.3/0.4", "methods", "at most two"),
        ("view=all", "view", "unknown figure"),
        ("config=nonsense", "config", "damaged"),
        ("quality=" + CONFIG, "quality", "no column"),
        ("colour=red", "link", "colour"),
        ("&".join("batch=1" for _ in range(99)), "link", "too many"),
    ],
)
def test_wrong_links_are_told_field_by_field(query, field, says):
    state, errors = from_query("?" + query)
    assert set(errors) == {field}
    assert says.lower() in errors[field].lower()
    assert state == State()


# --- files ----------------------------------------------------------------------------------------------------------


def test_no_file_of_the_machine_is_opened(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / "mine.toml").write_text("name = 'mine'")
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
    for name in ("config.json", str(tmp_path / "config.json"), str(tmp_path), "../config", "/etc/passwd"):
        assert "model" in from_query(f"?model={name}")[1]
    for name in ("mine.toml", str(tmp_path / "mine"), "../h100-sxm"):
        assert "gpus" in from_query(f"?gpus={name}")[1]
    assert [path for path in opened if str(tmp_path) in path or "passwd" in path or path == "config.json"] == []


def data_url(content: bytes) -> str:
    return "data:application/json;base64," + base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "holds list"),
        (b"\xff\xfe", "not a text file"),
        (b"[" * 200_000, "not valid JSON"),
        (b"x" * 1_000_010, "larger than 1000 kB"),
        (json.dumps(SMALL | {"hidden_size": -1}).encode(), "hidden_size"),
        (json.dumps(SMALL | {"num_hidden_layers": 10**9}).encode(), "at most 1000"),
        (json.dumps({"model_type": "mamba3"}).encode(), "not supported"),
        (json.dumps(SMALL | {"hidden_size": None}).encode(), "positive whole numbers"),
    ],
)
def test_uploads_are_read_strictly(content, says):
    with pytest.raises(PruninfersimError) as raised:
        uploads.config_text(uploads.content(data_url(content), "the model"), "config.json")
    assert says in str(raised.value)


def test_what_a_link_unpacks_is_bounded():
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 20_000_000, 9)).decode()
    with pytest.raises(InvalidInputError, match="damaged"):
        uploads.unpacked(bomb, "the model")
    with pytest.raises(InvalidInputError, match="too long"):
        uploads.packed("".join(map(str, np.random.default_rng(0).integers(0, 10, 90_000))), "the model")


@pytest.mark.parametrize("text", ["", "a", "é☃" * 1000])
def test_packing_keeps_the_text(text):
    assert uploads.unpacked(uploads.packed(text, "x"), "x") == text


def test_an_uploaded_model_is_the_model_of_the_library():
    state = State(config=CONFIG)
    assert answers.model(state) == pis.ModelConfig.from_hf(SMALL, name="small")
    assert answers.speedup(state, answers.focus(state)).model.name == "small"


def test_an_uploaded_quality_table_is_read_as_a_file_is(tmp_path):
    text = "method,family,sparsity,gap_percent\nmine,low-rank,0.25,2\nmine,low-rank,0.5,9\n"
    (tmp_path / "mine.csv").write_text(text)
    assert uploads.table_of(text).equals(pis.pareto.read_quality(tmp_path / "mine.csv"))
    for wrong in ("", "method\nx", text + "mine,low-rank,1.5,3\n", text + "mine,depthless,0.5,3\n"):
        with pytest.raises(FileFormatError):
            pis.pareto.quality_of(wrong)


def test_markup_in_a_name_is_no_markup_in_a_title():
    assert "<a" not in pis.plots.style.titled("Speedup", "<a href='http://x'>m</a> on h100-sxm")


# --- answers --------------------------------------------------------------------------------------------------------


@IGNORE_PROVENANCE
@pytest.mark.parametrize("config", ["", CONFIG])
def test_copied_python_prints_the_numbers_of_the_page(config):
    state = State(config=config, methods=MIXED, gpus=("l40s", "h100-sxm"), phase="decode", batch=8, dtype="int8")
    space: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(texts.python(state), space)  # what a reader does with it
    own = [answers.speedup(state, Point(gpu, m, 8, 1024)) for gpu in state.gpus for m in MIXED]
    assert [r.estimated for r in space["results"]] == [r.estimated for r in own]
    assert [r.hardware.name for r in space["results"]] == [r.hardware.name for r in own]


@pytest.mark.parametrize("config", ["", CONFIG])
def test_copied_command_prints_the_numbers_of_the_page(config, tmp_path, monkeypatch, capsys):
    import shlex

    from pruninfersim.cli import main

    monkeypatch.chdir(tmp_path)
    state = State(config=config, methods=MIXED, gpus=("l40s", "h100-sxm"), phase="decode", batch=8, dtype="int8")
    Path("config.json").write_text(json.dumps(SMALL))
    monkeypatch.setattr(sys, "argv", [*shlex.split(texts.command(state)), "--format", "json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = json.loads(capsys.readouterr().out)
    own = {(gpu, m): answers.speedup(state, Point(gpu, m, 8, 1024)) for gpu in state.gpus for m in MIXED}
    assert [row["estimated"] for row in printed] == [float(each.estimated) for each in own.values()]
    assert [row["high"] for row in printed] == [float(each.interval[1]) for each in own.values()]
    claims = [1 - 1 / float(each.claim) for each in own.values()]
    assert [row["sparsity"] for row in printed] == pytest.approx(claims, rel=1e-12)


@pytest.mark.parametrize("method", [*MIXED, "semi-structured@0.25", "static-width@0"])
def test_a_curve_goes_through_the_point_that_was_asked_for(method):
    state = State(methods=(method,), stack="ideal", phase="decode")
    (line,) = answers.curves(state)
    here = answers.speedup(state, answers.focus(state))
    place = int(np.flatnonzero(answers.scales(method) == 1.0)[0])
    assert line.estimated[place] == pytest.approx(here.estimated, rel=1e-12)
    assert line.claim[place] == pytest.approx(here.claim, rel=1e-12)
    assert np.all(np.diff(line.x) > 0)
    assert np.all(line.bound >= line.estimated * (1 - 1e-12))
    for scale, x, estimated in list(zip(answers.scales(method), line.x, line.estimated, strict=True))[::5]:
        alone = answers.speedup(state, Point("h100-sxm", answers.scaled(method, float(scale)), 1, 1024))
        assert alone.estimated == pytest.approx(estimated, rel=1e-9)
        assert 1 - 1 / alone.claim == pytest.approx(x, abs=1e-9)


def test_the_map_is_the_speedup_at_each_cell():
    state = State(phase="decode", gpus=("l40s",), methods=("low-rank@0.5",))
    info, fits = answers.over_map(state)
    assert info.speedup.shape == fits.shape == (len(answers.BATCHES), len(answers.CONTEXTS))
    for i, j in ((0, 0), (4, 3), (8, 7)):
        cell = {"points": [{"x": info.columns[j], "y": info.methods[i], "curveNumber": 0}]}
        point = figures.point_of(State(view="map", gpus=("l40s",), methods=("low-rank@0.5",)), cell)
        alone = answers.speedup(state, point)
        assert info.speedup[i, j] == pytest.approx(alone.estimated, rel=1e-12)
        assert fits[i, j] == alone.pruned.fits
    assert fits[0, 0]
    assert not fits[8, 7]


def test_gpus_are_those_of_compare_hardware():
    state = State(gpus=("l40s", "h100-sxm"), methods=MIXED, view="gpus")
    frame, left_out = answers.ranking(state)
    assert left_out == []
    bars = [bar for bar in figures.shown(state).figure.data if bar.name in MIXED]
    assert [list(bar.x) for bar in bars] == [["l40s", "h100-sxm"]] * 3
    own = [answers.speedup(state, Point(row.hardware, row.method, 1, 1024)).estimated
           for row in frame[frame.method != "dense"].itertuples()]  # fmt: skip
    assert frame[frame.method != "dense"].estimated_speedup.tolist() == pytest.approx(own, rel=1e-12)


def test_a_gpu_that_cannot_is_told_and_the_others_shown():
    state = State(gpus=("h100-sxm", "v100-sxm-16gb"), dtype="fp8", view="gpus")
    shown = figures.shown(state)
    assert any("v100-sxm-16gb" in text for text in shown.left_out)
    assert list(shown.figure.data[0].x) == ["h100-sxm"]


def test_quality_is_that_of_pareto():
    state = State(stack="ideal")
    mine, left_out = answers.quality_curves(state)
    table = pis.pareto.published_quality()
    own = pis.pareto.curves(table, model="llama-3.1-8b", hardware="h100-sxm", context=1024, stack="ideal")
    assert left_out == []
    assert list(mine) == list(own)
    for family, curve in own.items():
        assert mine[family].speed == pytest.approx(curve.speed, rel=1e-9)


def test_ops_add_up_to_both_sides():
    state = State(methods=("static-depth@0.5+low-rank@0.5",), phase="decode", stack="vllm")
    result = answers.speedup(state, answers.focus(state))
    frame = answers.ops(state, answers.focus(state))
    assert frame["seconds"].sum() == pytest.approx(result.pruned.to_frame().seconds.sum(), rel=1e-12)
    assert frame["seconds before"].sum() == pytest.approx(result.dense.to_frame().seconds.sum(), rel=1e-12)


@pytest.mark.parametrize("click", [None, {}, {"points": []}, {"points": [{"curveNumber": 99, "x": "y", "y": None}]}])
@pytest.mark.parametrize("view", VIEWS)
def test_a_click_on_nothing_is_the_focus(view, click):
    state = State(view=view)
    assert figures.point_of(state, click) == answers.focus(state)


def test_steps_add_up_over_their_ops():
    state = State(methods=("low-rank@0.5",), phase="decode")
    why = answers.speedup(state, answers.focus(state)).explain()
    bars = list(figures.shown(state).figure.data[0].x)
    found = {figures.step_of(state, {"points": [{"x": x}]}) for x in bars}
    assert set(why.steps) <= found
    for name in why.by_role:
        assert sum(seconds for _, seconds in answers.step(state, name)) == pytest.approx(why.steps[name], abs=1e-12)
    assert answers.step(state, "claim") == answers.step(state, "nothing") == []


def test_clicks_name_what_they_are_on():
    state = State(view="gpus")
    assert figures.point_of(state, {"points": [{"curveNumber": 2, "x": "l40s"}]}) == Point(
        "l40s", "semi-structured@0.5", 1, 1024
    )
    lines = figures.shown(State(view="sparsity")).figure.data
    curve = next(i for i, line in enumerate(lines) if line.name == "semi-structured@0.5")
    last = len(lines[curve].x) - 1
    spot = {"curveNumber": curve, "pointNumber": last, "x": 0.5}
    point = figures.point_of(State(view="sparsity"), {"points": [spot]})
    assert point.method == answers.scaled("semi-structured@0.5", float(answers.scales("semi-structured@0.5")[last]))
    pareto = figures.shown(State(view="pareto")).figure.data
    curve = next(i for i, line in enumerate(pareto) if line.name == "dynamic-depth")
    spot = {"curveNumber": curve, "pointNumber": 3, "x": float(pareto[curve].x[3])}
    assert figures.point_of(State(view="pareto"), {"points": [spot]}).method == "dynamic-depth@0.375"


@pytest.mark.parametrize("model", ["mixtral-8x7b", "deepseek-v3", "gemma-2-9b"])
@pytest.mark.parametrize("view", VIEWS)
def test_other_architectures_are_answered_or_told(model, view):
    if model not in pis.models.names():
        pytest.skip(f"{model} is not a built-in model")
    state = State(model=model, view=view, methods=("low-rank@0.5",))
    if not answers.problems(state):
        assert figures.shown(state).figure.data


# --- as a command, in a notebook ------------------------------------------------------------------------------------


def test_without_dash_one_line_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dash", None)
    with pytest.raises(MissingValueError, match=r"pruninfersim\[app\]"):
        pis.app.explore()
    from pruninfersim.cli import main

    monkeypatch.setattr(sys, "argv", ["pruninfersim", "explore"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"hardware": "h100-smx"}, "hardware: unknown GPU"),
        ({"methods": ["low-rank"]}, "methods"),
        ({"gpu": "h100-sxm"}, "hardware"),
        ({"batch": 0}, "batch"),
        ({"model": {"model_type": "llama"}}, "hidden_size"),
    ],
)
def test_explore_refuses_what_is_wrong(asked, says):
    with pytest.raises(PruninfersimError, match=says):
        pis.app.explore(**asked)


def test_explore_returns_a_page_that_begins_with_the_question(tmp_path):
    pytest.importorskip("dash", reason="needs the optional extra 'app'")
    page = pis.app.explore(model=SMALL, hardware=["l40s"], methods="low-rank@0.25", phase="decode", batch=4)
    found = json.dumps(page.layout().to_plotly_json(), default=lambda each: each.to_plotly_json())
    for part in ('"low-rank"', '"0.25"', '"l40s"', '"decode"'):
        assert part in found
    assert page.config.serve_locally

"""Tables of ratios in; traces, estimates and timelines out."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim import cli
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.pruning import PerBlock, PerLayer, PerRole, StaticWidth
from pruninfersim.pruning.tables import read_ratios
from pruninfersim.report.export import timeline, write_export, write_timeline

STEP = pis.Setup("llama-3.2-1b", "h100-sxm").estimate(pis.Workload.decode(4, 2048))


def written(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_tables_of_ratios(tmp_path):
    layer = read_ratios(written(tmp_path, "a.csv", "layer,sparsity\n1,0.5\n0,0.25\n"))
    assert isinstance(layer, PerLayer)
    assert layer.values == [0.25, 0.5]
    assert read_ratios(written(tmp_path, "a.json", "[0.25, 0.5]")).values == [0.25, 0.5]
    assert read_ratios(written(tmp_path, "b.json", '{"1": 0.5, "0": 0.25}')).values == [0.25, 0.5]
    block = read_ratios(written(tmp_path, "c.json", '[{"attn": 0.1, "mlp": 0.2}, {"attn": 0.3, "mlp": 0.4}]'))
    assert isinstance(block, PerBlock)
    assert block.attention.values == [0.1, 0.3]
    names = {f"model.layers.{i}.mlp.{name}_proj": 0.1 * (i + 1) for i in range(2) for name in ("up", "down")}
    role = read_ratios(written(tmp_path, "d.json", json.dumps(names)))
    assert isinstance(role, PerRole)
    assert role.down.values == [0.1, 0.2]
    assert role.q == 0.0


def test_a_table_is_a_ratio_like_any_other(tmp_path):
    text = "layer,attention,mlp\n" + "".join(f"{i},0.25,{0.5 if i < 8 else 0}\n" for i in range(16))
    dense = pis.trace("llama-3.2-1b", pis.Workload.decode())
    pruned = dense.prune(StaticWidth(read_ratios(written(tmp_path, "r.csv", text))))
    assert pruned.applied[0].achieved["mlp"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("layer,sparsity\n0,0.5\n0,0.5\n", "layer 0 twice"),
        ("layer,sparsity\n0,0.5\n2,0.5\n", "no ratio for layer 1"),
        ("layer,sparsity\n0,50\n", "fraction removed"),
        ("layer,sparsity\n0,half\n", "is no number"),
        ("layer,speed\n0,1\n", "unknown column 'speed'"),
        ("x,y\n0,1\n", "needs a column layer"),
        ("layer,sparsity\n", "no rows"),
    ],
)
def test_what_is_no_table(tmp_path, text, match):
    with pytest.raises(FileFormatError, match=match):
        read_ratios(written(tmp_path, "r.csv", text))
    with pytest.raises(FileFormatError, match="cannot read"):
        read_ratios(tmp_path / "missing.csv")


def test_exports_hold_what_the_objects_hold(tmp_path):
    csv_file = write_export(STEP.trace, tmp_path / "t.csv")
    rows = list(csv.DictReader(csv_file.read_text().splitlines()))
    assert {row["schema"] for row in rows} == {"pruninfersim.trace/1"}
    assert [float(row["m"]) for row in rows] == STEP.trace.m.tolist()
    out = json.loads(write_export(STEP, tmp_path / "e.json").read_text())
    assert out["schema"] == "pruninfersim.estimate/1"
    assert sum(row["seconds"] for row in out["rows"]) == pytest.approx(STEP.latency, rel=1e-12)
    with pytest.raises(InvalidInputError, match=r"ends in \.csv"):
        write_export(STEP, tmp_path / "e.xlsx")


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.read_parquet(write_export(STEP, tmp_path / "e.parquet"))
    assert frame["seconds"].sum() == pytest.approx(STEP.latency, rel=1e-12)


def test_the_command_writes_what_the_functions_write(tmp_path, monkeypatch, capsys):
    asked = ["--model", "llama-3.2-1b", "--phase", "decode", "--batch", "4", "--method", "static-width"]
    dense = pis.trace("llama-3.2-1b", pis.Workload.decode(4))
    pruned = dense.prune(StaticWidth(0.5))
    step = pis.Setup("llama-3.2-1b", "h100-sxm").estimate(pruned)
    own = tmp_path / "own.json"
    for what, write in (
        ("trace", lambda: write_export(pruned, own)),
        ("estimate", lambda: write_export(step, own)),
        ("timeline", lambda: write_timeline(step, own)),
    ):
        file = tmp_path / "step.json"
        monkeypatch.setattr("sys.argv", ["pruninfersim", "export", "--what", what, "--out", str(file), *asked])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert (left.value.code or 0) == 0, capsys.readouterr().err
        assert file.read_text() == write().read_text()


def test_a_timeline_is_in_order_and_complete(tmp_path):
    events = json.loads(write_timeline(STEP, tmp_path / "step.json").read_text())["traceEvents"]
    starts = np.array([event["ts"] for event in events])
    ends = starts + np.array([event["dur"] for event in events])
    assert (starts[1:] >= ends[:-1] - 1e-6).all()
    assert sum(event["dur"] for event in events) == pytest.approx(float((STEP.run * STEP.trace.count).sum()) * 1e6)
    assert ends[-1] <= STEP.latency * 1e6 * (1 + 1e-9)
    assert events[0]["name"] == "embedding"
    assert events[-1]["name"] == "lm_head"
    assert [event["args"]["layer"] for event in events if event["name"] == "down"] == list(range(16))
    with pytest.raises(InvalidInputError, match="sweep axes"):
        timeline(pis.Setup("llama-3.2-1b", "l40s").estimate(pis.Workload.decode([1, 2])))

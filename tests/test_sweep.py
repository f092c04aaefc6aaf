"""A sweep answers each question as `compare` does, in whatever order and process it runs."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, STACKS, top_sparsity, workload
from toy import toy

import pruninfersim as pis
from pruninfersim.cost import memory
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.sweep import grid as grids
from pruninfersim.sweep import runs, sweep
from pruninfersim.sweep.grid import BLOCK_POINTS, TOGETHER

pytestmark = IGNORE_PROVENANCE
GPUS = ("h100-sxm", "rtx-pro-6000")
MODELS = ("llama-3.1-8b", "qwen3-14b")
NUMBERS = (
    "claim", "flops_speedup", "ideal_speedup", "estimated_speedup", "estimated_low", "estimated_high", "bound_speedup",
    "dense_seconds", "pruned_seconds", "dense_bytes", "pruned_bytes", "achieved_attention", "achieved_mlp",
)  # fmt: skip


def one_by_one(row, stack, logits="last") -> dict[str, float]:
    """Answer the question of a row through `compare`, with no array anywhere."""
    options = {"logits": logits} if row.phase == "prefill" else {}
    dense = pis.trace(row.model, workload(row.phase, int(row.batch), int(row.context), **options))
    pruned = dense.prune(pis.pruning.get(row.method, float(row.sparsity)))
    result = pis.compare(dense, pruned, hardware=row.hardware, stack=stack)
    achieved = result.achieved[row.method]
    return {
        "claim": result.claim,
        "flops_speedup": result.flops,
        "ideal_speedup": result.ideal,
        "estimated_speedup": result.estimated,
        "estimated_low": result.interval[0],
        "estimated_high": result.interval[1],
        "bound_speedup": result.bound,
        "dense_seconds": result.dense.latency,
        "pruned_seconds": result.pruned.latency,
        "dense_bytes": float(memory.weight_memory(dense) + memory.kv_memory(dense)),
        "pruned_bytes": float(memory.weight_memory(pruned) + memory.kv_memory(pruned)),
        "dense_fits": result.dense.fits,
        "pruned_fits": result.pruned.fits,
        "achieved_attention": float(achieved.get("attention", 0.0)),
        "achieved_mlp": float(achieved.get("mlp", 0.0)),
    }


def check_rows(frame: pd.DataFrame, stack=None, logits="last") -> None:
    """Every row equals `compare` to 1e-12."""
    for row in frame.itertuples():
        expected = one_by_one(row, stack or row.stack, logits)
        for name in NUMBERS:
            found = getattr(row, name)
            assert found == pytest.approx(expected[name], rel=1e-12, abs=1e-15), (name, row)


def grid(**changes) -> pd.DataFrame:
    question = {
        "models": MODELS,
        "hardware": GPUS,
        "workloads": [pis.Workload.prefill(1, [64, 1000]), pis.Workload.decode([1, 3], 700)],
        "methods": FAMILIES,
        "sparsity": [0.0, 0.3, 0.5],
        "stacks": "ideal",
    }
    return sweep(**(question | changes))


def test_grid_equals_compare_row_by_row():
    frame = grid()
    assert len(frame) == len(MODELS) * len(GPUS) * 4 * len(FAMILIES) * 3
    check_rows(frame)


@pytest.mark.parametrize("stack", [name for name in STACKS if name != "ideal"])
def test_grid_equals_compare_on_every_stack(stack):
    check_rows(grid(models="llama-3.1-8b", hardware="rtx-pro-6000", stacks=stack))


def test_grid_equals_compare_with_steps_gaps_and_intervals():
    frame = grid(models="llama-3.1-8b", hardware="h100-sxm", stacks=toy())
    check_rows(frame, toy())
    wide = frame[(frame.sparsity > 0) & (frame.method != "sparse-attention")]
    assert (wide.estimated_low < wide.estimated_high).all()


def test_workload_options_reach_the_rows():
    every = pis.Workload.prefill(1, [128, 512], logits="all")
    check_rows(grid(models="llama-3.1-8b", hardware="h100-sxm", workloads=every), logits="all")


def random_rows(count: int = 60) -> pd.DataFrame:
    draw = np.random.default_rng(7)
    family = draw.choice(FAMILIES, count)
    return pd.DataFrame(
        {
            "model": draw.choice(MODELS, count),
            "hardware": draw.choice(GPUS, count),
            "method": family,
            "sparsity": [draw.uniform(0, top_sparsity(name)) for name in family],
            "phase": draw.choice(["prefill", "decode"], count),
            "batch": draw.integers(1, 33, count),
            "context": draw.integers(1, 5000, count),
        }
    )


def test_explicit_rows_keep_their_order_and_equal_compare():
    rows = random_rows().assign(stack="ideal")
    frame = sweep(rows=rows)
    for name in rows.columns:
        assert frame[name].astype(rows[name].dtype).tolist() == rows[name].tolist(), name
    check_rows(frame)


def test_rows_of_a_grid_asked_again_give_the_grid():
    frame = grid(models="qwen3-14b", hardware="l40s")
    again = sweep(rows=frame.sample(frac=1.0, random_state=1))
    merged = frame.sample(frac=1.0, random_state=1).reset_index(drop=True)
    np.testing.assert_allclose(again[list(NUMBERS)], merged[list(NUMBERS)], rtol=1e-12)


def test_blocks_do_not_change_the_answer():
    """More workloads than one block holds."""
    lengths = 16 + np.arange(BLOCK_POINTS // 2 + 10)
    frame = sweep(
        models="llama-3.1-8b", hardware="h100-sxm", workloads=pis.Workload.decode(2, lengths), methods="static-width",
        sparsity=[0.25, 0.5], stacks="ideal",
    )  # fmt: skip
    assert frame.context.tolist() == np.repeat(lengths, 2).tolist()
    check_rows(frame.iloc[[0, BLOCK_POINTS - 1, BLOCK_POINTS, BLOCK_POINTS + 1, len(frame) - 1]])


def test_text_is_categorical_and_units_are_in_the_names():
    frame = grid(models="llama-3.1-8b", hardware="h100-sxm")
    for name in ("model", "hardware", "stack", "method", "phase", "dtype"):
        assert isinstance(frame[name].dtype, pd.CategoricalDtype), name
    assert set(frame.columns) >= {"dense_seconds", "pruned_seconds", "dense_bytes", "pruned_bytes", *NUMBERS}
    assert not frame.isna().any().any()


@pytest.mark.parametrize(
    "make", [lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")), lambda: ThreadPoolExecutor(3)]
)
def test_executors_give_identical_results(make):
    here = grid(models="llama-3.1-8b")
    with make() as executor:
        there = grid(models="llama-3.1-8b", executor=executor)
        rows = sweep(rows=random_rows().assign(stack="ideal"), executor=executor)
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    pd.testing.assert_frame_equal(sweep(rows=random_rows().assign(stack="ideal")), rows, check_exact=True)


@pytest.mark.slow
def test_dask_gives_identical_results():
    distributed = pytest.importorskip("distributed", reason="needs dask[distributed]")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = grid(executor=client.get_executor())
    pd.testing.assert_frame_equal(grid(), there, check_exact=True)


def test_progress_is_silent_in_notebooks_without_widgets(monkeypatch, capfd):
    """rich would warn there, once per sweep, with a path of this installation."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(runs, "find_spec", lambda name: None)
    grid(models="llama-3.1-8b", hardware="h100-sxm", progress=True)
    assert capfd.readouterr() == ("", "")


def test_progress_is_silent_in_pipes(capfd):
    grid(models="llama-3.1-8b", hardware="h100-sxm", progress=True)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("axis", ["models", "hardware", "workloads", "methods", "stacks"])
def test_empty_axis_is_an_error(axis):
    with pytest.raises(InvalidInputError, match=axis):
        grid(**{axis: []})


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"models": "llama-3.1-9b"}, UnknownNameError, "Did you mean"),
        ({"hardware": "h100-sxn"}, UnknownNameError, "h100-sxm"),
        ({"methods": ["static-widht"]}, UnknownNameError, "static-width"),
        ({"stacks": "ideall"}, UnknownNameError, "ideal"),
        ({"sparsity": [0.5, 1.0]}, InvalidInputError, "sparsity"),
        ({"sparsity": [np.nan]}, InvalidInputError, "sparsity"),
        ({"methods": "semi-structured", "sparsity": 0.7}, InvalidInputError, "0.5"),
    ],
)
def test_wrong_input_is_named(changes, error, words):
    with pytest.raises(error, match=words):
        grid(**changes)


def test_rows_without_a_column_are_an_error():
    with pytest.raises(InvalidInputError, match="batch"):
        sweep(rows=random_rows().drop(columns="batch"))


def test_no_rows_give_no_rows():
    assert len(sweep(rows=random_rows().iloc[:0])) == 0


def test_a_sweep_leaves_its_input_alone():
    rows = random_rows().assign(stack="ideal")
    before = rows.copy(deep=True)
    sweep(rows=rows)
    pd.testing.assert_frame_equal(rows, before)


def test_gpus_and_stacks_that_are_evaluated_together_give_what_each_gives_alone():
    gpus = ["h100-sxm", "a100-sxm-80gb", "l40s", "b200-sxm", "rtx-pro-6000"]
    together = grid(
        models="llama-3.1-8b", hardware=gpus, stacks=["ideal", "vendor"], methods=["low-rank", "static-width"]
    )
    assert len(gpus) * 2 > TOGETHER
    alone = [
        grid(models="llama-3.1-8b", hardware=gpu, stacks=stack, methods=["low-rank", "static-width"])
        for gpu in gpus
        for stack in ("ideal", "vendor")
    ]
    np.testing.assert_array_equal(together[list(NUMBERS)], pd.concat(alone)[list(NUMBERS)])
    assert together.hardware.astype(str).tolist() == [gpu for gpu in gpus for _ in range(2 * 4 * 2 * 3)]
    check_rows(together.iloc[:: len(together) // 12])


@pytest.mark.parametrize("stack", STACKS)
def test_rows_of_several_methods_share_their_dense_side_and_equal_compare(stack):
    """One model, GPU and phase: a single block whose methods have workloads and sparsities of their own."""
    draw = np.random.default_rng(3)
    family = draw.permutation(np.repeat(FAMILIES, 5))
    rows = pd.DataFrame(
        {
            "model": "llama-3.1-8b",
            "hardware": "rtx-pro-6000",
            "method": family,
            "sparsity": [draw.uniform(0, top_sparsity(name)) for name in family],
            "phase": "decode",
            "batch": draw.integers(1, 33, len(family)),
            "context": draw.integers(1, 5000, len(family)),
            "stack": stack,
        }
    )
    frame = sweep(rows=rows)
    assert frame.method.astype(str).tolist() == family.tolist()
    check_rows(frame)
    np.testing.assert_allclose(frame.batch, rows.batch)


def test_blocks_of_rows_do_not_change_the_answer(monkeypatch):
    rows = random_rows(40).assign(stack="ideal")
    whole = sweep(rows=rows)
    monkeypatch.setattr(grids, "BLOCK_POINTS", 3)
    pd.testing.assert_frame_equal(sweep(rows=rows)[list(NUMBERS)], whole[list(NUMBERS)], rtol=1e-12)


@pytest.mark.parametrize("column", ["model", "hardware", "phase", "method", "stack"])
def test_a_row_with_an_empty_cell_is_an_error(column):
    """Grouping would drop it without a word."""
    rows = random_rows().assign(stack="ideal").astype({column: object})
    rows.loc[rows.index[3], column] = None
    with pytest.raises(InvalidInputError, match=f"no {column} in row 3"):
        sweep(rows=rows)

"""Mixtures of experts, all-reduce and latent attention: closed forms, orders that must hold, measurements."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.models.architectures.routing import active_share

DATA = os.environ.get("PRUNINFERSIM_VALIDATION_DATA")
GPUS = {
    "H100-SXM5": "h100-sxm", "H200": "h200-sxm", "B200": "b200-sxm", "L40S": "l40s",
    "RTXPRO6000": "rtx-pro-6000-server", "A100-SXM4": "a100-sxm-80gb",
}  # fmt: skip
QWEN = {"hidden": 2048, "inter": 768, "experts": 128, "top_k": 8}


def rows(name: str) -> pd.DataFrame:
    frame = pd.read_csv(Path(str(DATA)) / "moe" / f"{name}_aiconfigurator.csv.gz")
    return frame.assign(gpu=frame["gpu"].map(GPUS), seconds=frame["latency_us"] * 1e-6)


# A few measured points, ai-dynamo/aiconfigurator (Apache-2.0), aiconfigurator-core 0.12.0, TensorRT-LLM 1.3.0rc20.
@pytest.mark.parametrize(
    ("tokens", "routing", "measured"),
    [(1, "balanced", 47.4e-6), (16, "balanced", 419.8e-6), (16, "power_law_1.2", 203.4e-6), (64, "balanced", 428.9e-6)],
)
def test_moe_on_h100_is_as_measured(tokens, routing, measured):
    made = pis.moe_latency(tokens=tokens, **QWEN, routing=routing, hardware="h100-sxm", cache="replayed")
    assert made == pytest.approx(measured, rel=0.15)


def test_a_cold_mixture_reads_its_active_weights():
    """In decode no layer is faster than its active experts cross HBM."""
    tokens = np.array([1, 4, 16, 64, 256])
    for routing in ("uniform", "balanced", "power_law_1.01", "power_law_1.2"):
        made = pis.moe_latency(tokens=tokens, **QWEN, routing=routing, hardware="h100-sxm")
        active = np.maximum(active_share(tokens, 8, 128, routing), 8 / 128)
        assert (made > active * 128 * 3 * 2048 * 768 * 2 / 3.35e12).all()
        assert (np.diff(made) > 0).all()


def test_what_pruning_of_experts_saves():
    """Fewer experts save memory only at one token; fewer per token, or narrower ones, save time."""
    base = pis.moe_latency(tokens=1, **QWEN, hardware="h100-sxm")
    dropped = pis.moe_latency(tokens=1, **{**QWEN, "experts": 64}, hardware="h100-sxm")
    skipped = pis.moe_latency(tokens=1, **{**QWEN, "top_k": 4}, hardware="h100-sxm")
    narrow = pis.moe_latency(tokens=1, **{**QWEN, "inter": 384}, hardware="h100-sxm")
    assert dropped == pytest.approx(base, rel=0.05)
    assert skipped < 0.9 * base
    assert narrow < 0.9 * base


def test_arrays_broadcast_and_scalars_stay_scalars():
    made = pis.moe_latency(tokens=[[1], [8]], **{**QWEN, "top_k": [2, 4, 8]}, ep=2, hardware="b200-sxm", dtype="fp8")
    assert made.shape == (2, 3)
    assert isinstance(pis.all_reduce_latency(bytes=1e6, gpus=2, hardware="l40s"), float)
    assert pis.all_reduce_latency(bytes=[[1e3], [1e6]], gpus=[2, 4, 8], hardware="h100-sxm").shape == (2, 3)
    shape = {"context": [64, 512], "heads": [[16], [128], [2]], "hardware": "gb300"}
    assert pis.mla_latency(phase="decode", **shape).shape == (3, 2)
    assert pis.mla_latency(phase="prefill", query_len=64, form="absorbed", kv_dtype="fp8", **shape).shape == (3, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pis.moe_latency(tokens=1, **QWEN, hardware="h100-sxm", routing="even"), UnknownNameError, "routing"),
        (lambda: pis.moe_latency(tokens=1, **QWEN, hardware="h100-sxm", library="vllm"), UnknownNameError, "library"),
        (lambda: pis.moe_latency(tokens=1, **QWEN, hardware="h100-sxm", ep=256), InvalidInputError, "ep must not"),
        (lambda: pis.moe_latency(tokens=0, **QWEN, hardware="h100-sxm"), InvalidInputError, "tokens"),
        (lambda: pis.all_reduce_latency(bytes=1, gpus=2, hardware="l40s", library="mpi"), UnknownNameError, "library"),
        (lambda: pis.mla_latency(phase="train", context=1, heads=1, hardware="l40s"), UnknownNameError, "phase"),
        (
            lambda: pis.mla_latency(phase="decode", context=1, heads=1, hardware="l40s", form="expanded"),
            InvalidInputError,
            "absorbed",
        ),
    ],
)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_all_reduce_on_h100_is_as_measured_and_grows():
    """Closed form of a ring or two-shot: 2 (N - 1) / N of the message at the rate of the link, for large ones."""
    size = 2.0**28
    assert pis.all_reduce_latency(bytes=size, gpus=8, hardware="h100-sxm") == pytest.approx(
        2 * 7 / 8 * size / 431e9, rel=0.15
    )
    sizes = 2.0 ** np.arange(8, 30)
    for library in ("trtllm", "vllm", "sglang", "nccl"):
        assert (np.diff(pis.all_reduce_latency(bytes=sizes, gpus=4, hardware="h100-sxm", library=library)) > 0).all()
    assert pis.all_reduce_latency(bytes=1e6, gpus=1, hardware="h100-sxm") == 0.0


# Measured points around the size from which a library calls NCCL; the same source, vLLM 0.14 and 0.24, SGLang 0.5.10.
@pytest.mark.parametrize(
    ("gpu", "library", "gpus", "before", "after"),
    [
        ("a100-sxm-80gb", "vllm", 2, (2**22, 25.2e-6), (2**24, 126.3e-6)),
        ("a100-sxm-80gb", "sglang", 8, (2**22, 44.8e-6), (2**24, 215.7e-6)),
        ("h100-sxm", "trtllm", 8, (2**18, 10.2e-6), (2**20, 26.0e-6)),
    ],
)
def test_large_messages_are_handed_to_nccl(gpu, library, gpus, before, after):
    for size, measured in (before, after):
        made = pis.all_reduce_latency(bytes=size, gpus=gpus, hardware=gpu, library=library)
        assert made == pytest.approx(measured, rel=0.12)
    beyond = [pis.all_reduce_latency(bytes=2**28, gpus=gpus, hardware=gpu, library=name) for name in (library, "nccl")]
    assert beyond[0] == pytest.approx(beyond[1], rel=0.12)


@pytest.mark.skipif(not DATA, reason="the timings are not here")
@pytest.mark.parametrize(("gpu", "dtype", "most"), [("h100-sxm", "bf16", 0.09), ("b200-sxm", "fp8", 0.10)])
def test_moe_error_on_all_timings(gpu, dtype, most):
    frame = rows("moe")
    frame = frame[(frame["gpu"] == gpu) & (frame["dtype"] == dtype) & frame["backend"].str.startswith("trtllm")]
    errors = []
    for (routing, gated), part in frame.groupby(["routing", "gated"]):
        names = {"tokens": "tokens", "hidden": "hidden", "inter": "inter", "experts": "experts", "top_k": "topk"}
        shape = {key: part[name].to_numpy() for key, name in {**names, "tp": "tp", "ep": "ep"}.items()}
        made = pis.moe_latency(**shape, hardware=gpu, dtype=dtype, routing=routing, gated=bool(gated), cache="replayed")
        errors.append(np.abs(made / part["seconds"].to_numpy() - 1))
    assert np.concatenate(errors).mean() < most


@pytest.mark.skipif(not DATA, reason="the timings are not here")
def test_mla_error_on_all_timings():
    frame = rows("mla")
    for (gpu, phase, backend, kv, form), part in frame.groupby(["gpu", "phase", "backend", "kv_dtype", "form"]):
        if gpu not in ("h100-sxm", "h200-sxm"):
            continue
        made = pis.mla_latency(
            phase=phase, batch=part["batch"], query_len=part["q_len"], context=part["kv_len"], heads=part["heads"],
            hardware=gpu, kv_dtype=kv, form=form, library=backend.split("-")[0], cache="replayed",
        )  # fmt: skip
        error = np.abs(made / part["seconds"].to_numpy() - 1).mean()
        assert error < (0.085 if phase == "decode" else 0.075), (gpu, phase, backend, kv)

"""Methods beyond the seven families keep the contract of a method, in every form that changes what they do."""

from __future__ import annotations

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim import testing
from pruninfersim.pruning import PerBlock
from pruninfersim.pruning.prefill_selection import ESTIMATORS
from pruninfersim.pruning.unstructured import FORMATS

DECODE = (pis.Workload.decode(batch=1, context=1024), pis.Workload.decode(batch=8, context=4096))

#: Methods beyond the seven families, in every form that changes what they do.
MORE = (
    pis.pruning.KVEviction(0.5),
    pis.pruning.KVEviction(0.5, score="window"),
    pis.pruning.KVEviction(budget=700, score="accumulated"),
    pis.pruning.KVEviction(budget=300, score="window", head_share=0.5),
    pis.pruning.KVEviction(np.array([0.2, 0.6]), head_share=0.3),
    pis.pruning.KVSelection(0.8),
    pis.pruning.KVSelection(budget=1024, page=1, index_heads=16),
    *(pis.pruning.PrefillSelection(0.8, estimator=each) for each in ESTIMATORS),
    *(pis.pruning.Unstructured(0.5, format=each) for each in FORMATS),
    pis.pruning.NOfM(),
    pis.pruning.NOfM(kept=6, of=8, transposes=True),
    pis.pruning.NOfM(0.3, kept=1, of=4, backend="memory"),
    pis.pruning.ActivationSparsity(0.5),
    pis.pruning.ActivationSparsity(PerBlock(mlp=0.5), mode="gated"),
    pis.pruning.DynamicWidth(0.5),
    pis.pruning.DynamicWidth(0.5, group=32),
    pis.pruning.TokenPruning(0.5),
    pis.pruning.TokenPruning(0.3, layer=0),
    pis.pruning.EarlyExit(0.5),
    pis.pruning.EarlyExit(0.5, kv="skipped", heads=0),
    pis.pruning.TokenMerging(0.5),
    pis.pruning.TokenMerging(merged=np.array([3, 40]), layer=2),
    pis.pruning.PrefillDepth(0.3),
    pis.pruning.Vocabulary(0.5),
    pis.pruning.Vocabulary(size=32000),
    pis.pruning.LayerChoices(("keep", "none", "linear", 2) * 8, ("linear", 4096, "keep", "none") * 8),
    pis.pruning.LowRank(rank=512),
    pis.pruning.LowRank(0.5, kept=0.1, shared=2),
    pis.pruning.StaticWidth(0.5, heads="query"),
    pis.pruning.DynamicDepth(0.5, blocks=("mlp",)),
    pis.pruning.DynamicDepth(0.5, router="layer"),
    pis.pruning.DynamicDepth(0.5, router="none", kv="skipped"),
)


@pytest.mark.parametrize("method", MORE, ids=lambda method: method.name)
def test_methods_beyond_the_families_pass(method):
    testing.check_pruning(method)
    if not isinstance(method, pis.pruning.LayerChoices):
        testing.check_pruning(method, model="gemma-3-12b", workloads=DECODE)


@pytest.mark.parametrize("name", pis.pruning.MORE)
def test_a_named_method_passes_without_and_with_sparsity(name):
    model = "qwen3-30b-a3b" if name == "expert-pruning" else "qwen3-0.6b"
    for sparsity in (0.0, np.linspace(0, 0.75, 3)):
        testing.check_pruning(pis.pruning.get(name, sparsity), model=model)

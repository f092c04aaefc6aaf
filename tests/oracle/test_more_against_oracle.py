"""Methods beyond the seven families equal a second scalar oracle to 1e-12, over a sweep and at single points."""

from __future__ import annotations

import more_scalar as oracle
import more_scalar_weights as weights
import numpy as np
import pytest
from cases import total, workload
from more_scalar import made

import pruninfersim as pis
from pruninfersim import pruning

BATCH, CONTEXT = (1, 3, 32), (513, 5000)
ATTENTION = ("keep", "none", "linear", 2) * 8
MLP = ("linear", 4096, "keep", "none") * 8

#: Method -> its oracle.
CASES = [
    (pruning.KVEviction(0.3), made(oracle.Evict, share=0.3)),
    (pruning.KVEviction(budget=700), made(oracle.Evict, budget=700)),
    (pruning.KVEviction(budget=700, score="window"), made(oracle.Evict, budget=700, score="window")),
    (pruning.KVEviction(0.5, score="accumulated"), made(oracle.Evict, share=0.5, score="accumulated")),
    (pruning.KVEviction(budget=300, head_share=0.5), made(oracle.Evict, budget=300, full=0.5)),
    (
        pruning.KVEviction(budget=300, head_share=0.5, score="window"),
        made(oracle.Evict, budget=300, full=0.5, score="window"),
    ),
    (pruning.KVSelection(budget=1000), made(oracle.Select, budget=1000)),
    *(
        (pruning.PrefillSelection(0.7, estimator=how), made(oracle.Prefill, s=0.7, how=how))
        for how in ("pooled", "sampled", "antidiagonal", "every-query", "threshold")
    ),
    (pruning.Unstructured(0.6), made(weights.Compressed, stored=0.4 * 2 + 1 / 8)),
    (pruning.Unstructured(0.6, "csr"), made(weights.Compressed, stored=0.4 * 4)),
    (pruning.Unstructured(0.6, "delta"), made(weights.Compressed, stored=0.4 / (1 - 0.6**16) * 2.5)),
    (pruning.Unstructured(0.6, "dense"), made(weights.Compressed)),
    (pruning.NOfM(kept=2, of=8, backend="memory"), made(weights.Compressed, stored=0.25 * (2 + 3 / 8))),
    (pruning.NOfM(kept=2, of=8), made(weights.Windows)),
    (pruning.NOfM(kept=2, of=10), made(weights.Windows, of=10)),
    (pruning.NOfM(kept=6, of=8), made(weights.Windows, kept=6)),
    (pruning.ActivationSparsity(0.4), made(weights.Active, s=0.4)),
    (pruning.ActivationSparsity(0.4, "gated"), made(weights.Active, s=0.4, gated=True)),
    (pruning.DynamicWidth(0.5), made(weights.Groups)),
    (pruning.DynamicWidth(0.3, group=32), made(weights.Groups, s=0.3, group=32)),
    (pruning.TokenPruning(0.5), made(weights.Fewer)),
    (pruning.TokenPruning(0.3, layer=0), made(weights.Fewer, s=0.3, first=0)),
    (pruning.TokenMerging(0.5), made(weights.Merge, s=0.5)),
    (pruning.TokenMerging(merged=7, layer=3), made(weights.Merge, each=7, first=3)),
    (pruning.PrefillDepth(0.3), made(weights.Fill)),
    (pruning.PrefillDepth(0.0), made(oracle.Pass)),
    (pruning.EarlyExit(0.5), made(weights.Exit)),
    (pruning.EarlyExit(0.2, kv="skipped"), made(weights.Exit, s=0.2, filled=False)),
    (pruning.Vocabulary(size=32001), made(weights.Words, size=32001)),
    (pruning.LayerChoices(ATTENTION, MLP), made(weights.Table, attention_table=ATTENTION, mlp_table=MLP)),
    (pruning.StaticWidth(0.3, heads="query"), made(weights.QueryHeads, s=0.3)),
    (pruning.LowRank(rank=512), made(weights.Rank)),
    (pruning.LowRank(0.4, shared=2), made(weights.Factors, s=0.4, layers=2)),
    (pruning.LowRank(0.4, kept=0.1, shared=4), made(weights.Factors, s=0.4, share=0.1, layers=4)),
    (pruning.LowRank(0.6, kept=0.2), made(weights.Factors, s=0.6, share=0.2)),
    (pruning.DynamicDepth(0.5, router="none"), made(weights.Skip)),
    (pruning.DynamicDepth(0.5, router="layer", blocks=("mlp",)), made(weights.Skip, blocks=("mlp",), routers=1)),
    (pruning.DynamicDepth(0.3, router="layer", kv="skipped"), made(weights.Skip, s=0.3, stored=False, routers=1)),
]


def check(pruned, expected):
    for index, column in enumerate(("flops", "traffic")):
        found = np.broadcast_to(total(pruned, column), expected.shape[:-1])
        np.testing.assert_allclose(found, expected[..., index], rtol=1e-12, err_msg=column)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-12b"])
@pytest.mark.parametrize(("method", "build"), CASES, ids=[f"{i}-{method.name}" for i, (method, _) in enumerate(CASES)])
def test_flops_and_bytes(method, build, model, phase):
    if isinstance(method, pruning.LayerChoices) and model != "llama-3.1-8b":
        pytest.skip("the table is for 32 layers")
    dense = pis.trace(model, workload(phase, np.array(BATCH)[:, None], np.array(CONTEXT)))
    expected = np.array([[build(model, phase, b, c).totals() for c in CONTEXT] for b in BATCH])
    check(dense.prune(method), expected)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_dense(phase):
    for model in ("llama-3.1-8b", "gemma-3-12b", "qwen3-0.6b"):
        check(pis.trace(model, workload(phase, 2, 4321)), np.array(made(oracle.Pass)(model, phase, 2, 4321).totals()))

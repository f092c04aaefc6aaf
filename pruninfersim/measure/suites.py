"""Suites: which shapes are timed. Llama-3.1-8B and smaller models, dense and as the seven families leave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pruninfersim import models, pruning
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import precision
from pruninfersim.measure.cases import Case, Value
from pruninfersim.trace import trace
from pruninfersim.workload import Workload

#: Families whose layers are built and timed.
FAMILIES = (
    "static-depth", "low-rank", "semi-structured", "static-width", "static-width-cross", "dynamic-depth",
    "sparse-attention",
)  # fmt: skip
#: Weight shapes (outputs, inputs): Llama-3.1-8B dense, with a quarter and half of its width gone, then Llama-3.2-1B.
DENSE_8B = ((4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336))
PRUNED_8B = ((10752, 4096), (4096, 10752), (7168, 4096), (4096, 7168), (2048, 4096), (4096, 2048), (14336, 2048))
DENSE_1B = ((2048, 2048), (512, 2048), (8192, 2048), (2048, 8192))
#: Outputs and inputs of an LM head.
HEAD = (128256, 4096)
#: Rows of a linear layer: decode batches, then prompts.
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
FEW_TOKENS = (1, 16, 64, 256, 2048, 8192)
#: Heads, KV heads and head size: Llama-3.1-8B, with a quarter and half of its groups gone, Llama-3.2-1B.
HEADS = ((32, 8, 128), (24, 6, 128), (16, 4, 128), (32, 8, 64))
#: Key blocks of FlexAttention: the smallest that its kernels take without loss.
BLOCK = 128
#: Layers of the stack that the layer suite runs; their weights are larger than any L2.
DEPTH = 4
#: Time to compile an elementwise kernel, and a FlexAttention kernel, on an ordinary host [s].
COMPILE, FLEX_COMPILE = 2.5, 12.0
#: Largest KV cache that is timed [B].
LARGEST_CACHE = 9e9


def _product(kind: str, suite: str, dtype: str, m: int, n: int, k: int, **more: Value) -> Case:
    """Return a case of one GEMM."""
    size = precision.get(dtype)
    weights = precision.sparse_bytes(size.weight_bytes) if more.get("sparsity") == "2:4" else size.weight_bytes
    traffic = m * k * size.input_bytes + n * k * weights + m * n * size.output_bytes
    flops = 2.0 * m * n * k * (0.5 if more.get("sparsity") == "2:4" else 1.0)
    return Case(suite, kind, dtype, {"m": m, "n": n, "k": k, **more}, flops, traffic, 1.0)


def gemm() -> Iterator[Case]:
    """Dense GEMMs in bf16 and fp8, and the thin ones of a router."""
    for n, k in (*DENSE_8B, *PRUNED_8B, *DENSE_1B):
        yield from (_product("gemm", "gemm", "bf16", m, n, k) for m in TOKENS)
    yield from (_product("gemm", "gemm", "bf16", m, *HEAD) for m in (1, 16, 128, 2048))
    for n, k in (*DENSE_8B, *PRUNED_8B[2:4], *DENSE_1B[2:]):
        yield from (_product("gemm", "gemm", "fp8", m, n, k) for m in TOKENS[::2])
    for n, k in ((16, 4096), (2, 16)):
        yield from (_product("router", "gemm", "bf16", m, n, k) for m in FEW_TOKENS)


def gemm_misaligned() -> Iterator[Case]:
    """Widths that are no multiple of what tiles and vector loads want, along n and along k."""
    for m in (1, 16, 256, 2048):
        for off in (1, 2, 4, 8, 16, 32, 64):
            yield _product("gemm_misaligned", "gemm-misaligned", "bf16", m, 4096, 7168 - off)
            yield _product("gemm_misaligned", "gemm-misaligned", "bf16", m, 7168 - off, 4096)


def two_of_four() -> Iterator[Case]:
    """2:4 GEMMs of cuSPARSELt and their dense partners under the same protocol."""
    for n, k in (*DENSE_8B, *DENSE_1B[2:]):
        for m in TOKENS:
            for sparsity in ("dense", "2:4"):
                yield _product("gemm_2of4", "2of4", "bf16", m, n, k, sparsity=sparsity)


def low_rank() -> Iterator[Case]:
    """Pairs of thin GEMMs, back to back, with the result in between written and read."""
    for n, k in (DENSE_8B[0], DENSE_8B[2], DENSE_8B[3]):
        for sparsity in (0.0, 0.25, 0.5):
            rank = int(pruning.low_rank_rank(n, k, sparsity))
            for m in FEW_TOKENS:
                traffic = 2.0 * (m * k + rank * k + 2 * m * rank + n * rank + m * n)
                shape = {"tokens": m, "outputs": n, "inputs": k, "rank": rank}
                yield Case("low-rank", "low_rank", "bf16", shape, 2.0 * m * rank * (n + k), traffic, 2.0)


def token_gemm() -> Iterator[Case]:
    """GEMMs on some of the rows: gather, GEMM, scatter; and one fused kernel that does all three."""
    for n, k in (DENSE_8B[0], DENSE_8B[2], DENSE_8B[3]):
        for m in (8, 64, 512, 2048, 8192):
            for keep in (0.25, 0.5, 0.75, 1.0):
                rows = keep * m
                operands = rows * k + n * k + rows * n
                for how, moved, launches in (("gather", 2 * rows * (k + n), 3.0), ("fused", 0.0, 1.0)):
                    shape = {"tokens": m, "outputs": n, "inputs": k, "keep": keep, "how": how}
                    traffic = 2.0 * (operands + moved)
                    setup = 0.3 if how == "gather" else COMPILE
                    yield Case("token-gemm", "token_gemm", "bf16", shape, 2.0 * rows * n * k, traffic, launches, setup)


def _attention(kind: str, suite: str, shape: dict[str, Value], share: float, reads: float, setup: float) -> Case:
    """Return a case of fused attention; `share` of the products is done and `reads` of the keys are read."""
    batch, heads, kv_heads, size, queries, keys = (float(value) for value in list(shape.values())[:6])
    flops = 4.0 * batch * heads * queries * keys * size * share
    traffic = 2.0 * batch * size * (2.0 * heads * queries + 2.0 * kv_heads * keys * reads)
    return Case(suite, kind, "bf16", shape, flops, traffic, 1.0, setup)


def _lengths(phase: str) -> Iterator[tuple[int, int, int]]:
    """Yield batch, new tokens and keys."""
    if phase == "prefill":
        for batch, tokens in ((1, 512), (1, 1024), (1, 2048), (1, 4096), (1, 8192), (1, 16384), (1, 32768)):
            yield batch, tokens, tokens
        for batch, tokens in ((4, 512), (4, 2048), (8, 1024), (16, 512), (16, 2048), (32, 1024)):
            yield batch, tokens, tokens
    else:
        for batch in (1, 2, 4, 8, 16, 32, 64, 128):
            yield from ((batch, 1, keys) for keys in (512, 1024, 4096, 8192, 16384, 32768))


def attention() -> Iterator[Case]:
    """Causal prefill and decode steps through the flash kernels of scaled_dot_product_attention."""
    for phase in ("prefill", "decode"):
        for heads, kv_heads, size in HEADS:
            for batch, queries, keys in _lengths(phase):
                if 4.0 * batch * kv_heads * size * keys > LARGEST_CACHE:
                    continue
                names = ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len")
                shape = dict(zip(names, (batch, heads, kv_heads, size, queries, keys), strict=True))
                share = 0.5 if phase == "prefill" else 1.0
                yield _attention(f"attention_{phase}", "attention", dict(shape), share, 1.0, 0.3)


def block_sparse() -> Iterator[Case]:
    """FlexAttention over a share of the key blocks."""
    for phase, lengths in (
        ("prefill", ((1, 2048, 2048), (1, 8192, 8192), (1, 32768, 32768))),
        ("decode", ((1, 1, 8192), (1, 1, 32768), (16, 1, 4096), (16, 1, 16384))),
    ):
        for batch, queries, keys in lengths:
            for keep in (0.25, 0.5, 0.75, 1.0):
                names = ("batch", "heads", "kv_heads", "head_dim", "queries", "keys", "keep", "block")
                shape = dict(zip(names, (batch, *HEADS[0], queries, keys, keep, BLOCK), strict=True))
                share, reads = (0.5 * keep, 1.0) if phase == "prefill" else (keep, keep)
                yield _attention(f"block_sparse_{phase}", "block-sparse", dict(shape), share, reads, FLEX_COMPILE)


#: Elementwise op -> widths that are timed, elements moved per position, whether it has to be compiled.
WIDTHS: dict[str, tuple[tuple[int, ...], float, bool]] = {
    "norm": ((1024, 2048, 4096), 4.0, True),
    "act": ((4096, 7168, 14336), 3.0, True),
    "rope": ((2560, 5120), 2.0, True),
    "kv_append": ((1024, 2048), 2.0, False),
    "embedding": ((2048, 4096), 2.0, False),
    "transpose": ((2048, 4096), 2.0, False),
    "mask_sort": ((1,), 2.0, False),
}


def elementwise() -> Iterator[Case]:
    """Elementwise kernels, each fused into one: residual add and norm, SiLU and product, rotary positions ..."""
    for op, (widths, moved, compiled) in WIDTHS.items():
        for width in widths:
            for m in (1, 16, 128, 1024, 4096, 16384):
                setup = COMPILE if compiled else 0.3
                shape: dict[str, Value] = {"op": op, "m": m, "k": width}
                yield Case("elementwise", f"elementwise_{op}", "bf16", shape, 0.0, 2.0 * moved * m * width, 1.0, setup)


def launch() -> Iterator[Case]:
    """What a kernel costs that does nothing: alone in a stream of launches, and inside a graph."""
    for mode in ("graph", "eager"):
        for kernels in (100, 1000):
            yield Case("launch", "launch", "bf16", {"mode": mode, "kernels": kernels}, 0.0, 1024.0)


def bandwidth() -> Iterator[Case]:
    """Copies, reads and writes of large buffers."""
    for op in ("copy", "read", "write"):
        for size in (2**20, 2**22, 2**24, 2**26, 2**28, 2**30):
            moved = size * (2.0 if op == "copy" else 1.0)
            yield Case("bandwidth", "bandwidth", "bf16", {"op": op, "bytes": size}, 0.0, moved)


#: Workloads of the layer suite: phase, batch, context.
LAYER_WORKLOADS = (
    ("prefill", 1, 1024), ("prefill", 1, 4096), ("prefill", 1, 16384), ("prefill", 8, 1024),
    ("decode", 1, 4096), ("decode", 1, 32768), ("decode", 16, 4096), ("decode", 64, 1024),
)  # fmt: skip


def layer() -> Iterator[Case]:
    """A whole decoder layer, dense and under each of the seven families; times are per layer of the dense model."""
    for model in ("llama-3.1-8b", "llama-3.2-1b"):
        config = models.get(model).clone(f"{model}-layers", num_layers=DEPTH)
        for phase, batch, context in LAYER_WORKLOADS:
            dense = trace(config, Workload.of(phase, batch, context))
            dense = dense.select(dense.mask(blocks=["attention", "mlp"]))
            for method in ("dense", *FAMILIES):
                for sparsity in (0.0,) if method == "dense" else (0.25, 0.5):
                    ops = dense if method == "dense" else dense.prune(pruning.get(method, sparsity))
                    flex = method == "sparse-attention" or (method == "dynamic-depth" and phase == "prefill")
                    shape: dict[str, Value] = {
                        "model": model, "method": method, "sparsity": sparsity, "phase": phase, "batch": batch,
                        "context": context,
                    }  # fmt: skip
                    yield Case(
                        "layer", "layer", "bf16", shape,
                        float((ops.flops * ops.count).sum()) / DEPTH,
                        float((ops.traffic * ops.count).sum()) / DEPTH,
                        float((ops.launches * ops.count).sum()) / DEPTH,
                        FLEX_COMPILE if flex else 4.0,
                    )  # fmt: skip


#: Name -> generator of its cases.
SUITES: dict[str, Callable[[], Iterator[Case]]] = {
    "gemm": gemm,
    "gemm-misaligned": gemm_misaligned,
    "2of4": two_of_four,
    "low-rank": low_rank,
    "attention": attention,
    "block-sparse": block_sparse,
    "token-gemm": token_gemm,
    "elementwise": elementwise,
    "launch": launch,
    "bandwidth": bandwidth,
    "layer": layer,
}


def select(names: str | Sequence[str] = "all") -> list[Case]:
    """Return the cases of some suites, each case once.

    Parameters
    ----------
    names : str or sequence of str
        ``"all"``, names separated by commas, or a list of names.

    Raises
    ------
    UnknownNameError
        If there is no such suite.
    InvalidInputError
        If no name is given.

    >>> {case.kind for case in select("attention")} == {"attention_prefill", "attention_decode"}
    True
    """
    wanted = [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]
    if not wanted:
        raise InvalidInputError(f"no suite given; choose all, or some of {', '.join(SUITES)}")
    for name in wanted:
        if name != "all" and name not in SUITES:
            raise unknown_name("suite", name, ["all", *SUITES])
    chosen = [name for name in SUITES if "all" in wanted or name in wanted]
    cases = {(case.kind, case.key): case for name in chosen for case in SUITES[name]()}
    return list(cases.values())

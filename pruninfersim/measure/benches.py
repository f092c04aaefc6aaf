"""From a case to what runs on the GPU: GEMMs of every sort, elementwise kernels, launches and plain copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from pruninfersim.errors import PruninfersimError
from pruninfersim.measure import layer
from pruninfersim.measure.cases import ELEMENTWISE, Case
from pruninfersim.measure.timing import Bench, Tensor

#: Rows of a result that are compared with the reference.
CHECKED_ROWS = 64
#: Rows of the table that the embedding case reads from.
VOCABULARY = 128256
HEAD_DIM = 128


@dataclass(frozen=True)
class Maker:
    """Makes operands.

    Attributes
    ----------
    copies : int
        Sets of operands that a bench cycles.
    device : str
    """

    copies: int
    device: str = "cuda"

    def normal(self, *shape: int, gain: float = 1.0, dtype: Any = torch.bfloat16) -> Tensor:
        """Return normal random numbers."""
        out = torch.randn(shape, device=self.device, dtype=torch.bfloat16)
        return (out * gain).to(dtype) if gain != 1.0 else out.to(dtype)

    def many(self, make: Callable[[], Any]) -> list[Any]:
        """Return one set of operands per copy."""
        return [make() for _ in range(self.copies)]


Builder = Callable[[Case, Maker], Bench]


def sizes(case: Case, *names: str) -> list[int]:
    """Return whole shape columns of a case."""
    return [int(case.shape[name]) for name in names]


def gemm(case: Case, make: Maker) -> Bench:
    """Dense GEMM of cuBLAS; in fp8 the activations are narrow before it starts."""
    m, n, k = sizes(case, "m", "n", "k")
    sets = make.many(lambda: (make.normal(m, k), make.normal(n, k, gain=k**-0.5)))
    x, w = sets[0]
    if case.dtype == "bf16":
        return _linear(sets, lambda: x[:CHECKED_ROWS].float() @ w.float().T)
    eight, one = torch.float8_e4m3fn, torch.ones((), device=make.device)
    # Of unit size, where e4m3 has most of its precision.
    stored = [(x.to(eight), (w * k**0.5).to(eight)) for x, w in sets]

    def call(x: Tensor, w: Tensor) -> Tensor:
        return torch._scaled_mm(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    def reference() -> tuple[Tensor, Tensor]:
        x, w = stored[0]
        return call(x, w)[:CHECKED_ROWS], x[:CHECKED_ROWS].float() @ w.float().T

    return Bench(tuple(partial(call, x, w) for x, w in stored), reference)


def _linear(sets: list[Any], reference: Callable[[], Tensor]) -> Bench:
    x, w = sets[0]
    calls = tuple(partial(F.linear, x, w) for x, w in sets)
    return Bench(calls, lambda: (F.linear(x, w)[:CHECKED_ROWS], reference()))


def two_of_four(case: Case, make: Maker) -> Bench:
    """2:4 GEMM of cuSPARSELt with the fastest of its algorithms for the shape; or its dense partner."""
    from pruninfersim.measure import families

    m, n, k = sizes(case, "m", "n", "k")
    if case.shape["sparsity"] == "dense":
        return gemm(case, make)
    dense = make.many(lambda: (make.normal(m, k), families.two_of_four(make.normal(n, k, gain=k**-0.5))))
    x, w = dense[0]
    best = families.fastest_algorithm(w, m)
    sets = [(x, families.stored(w, best)) for x, w in dense]
    reference = w.float()
    del dense
    return _linear(sets, lambda: x[:CHECKED_ROWS].float() @ reference.T)


def low_rank(case: Case, make: Maker) -> Bench:
    """Two thin GEMMs, back to back."""
    m, n, k, rank = sizes(case, "tokens", "outputs", "inputs", "rank")
    sets = make.many(
        lambda: (make.normal(m, k), make.normal(rank, k, gain=k**-0.5), make.normal(n, rank, gain=rank**-0.5))
    )

    def call(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return F.linear(F.linear(x, a), b)

    def compare() -> tuple[Tensor, Tensor]:
        x, a, b = sets[0]
        return call(x, a, b)[:CHECKED_ROWS], x[:CHECKED_ROWS].float() @ a.float().T @ b.float().T

    return Bench(tuple(partial(call, *s) for s in sets), compare)


def token_gemm(case: Case, make: Maker) -> Bench:
    """GEMM on some rows: gather, GEMM and scatter, or one kernel of our own that does all three."""
    m, n, k = sizes(case, "tokens", "outputs", "inputs")
    kept = max(1, round(float(case.shape["keep"]) * m))

    def operands() -> tuple[Tensor, ...]:
        rows = torch.randperm(m, device=make.device)[:kept].sort().values
        return make.normal(m, k), make.normal(n, k, gain=k**-0.5), rows, make.normal(m, n)

    def gathered(x: Tensor, w: Tensor, rows: Tensor, out: Tensor) -> Tensor:
        return out.index_copy_(0, rows, F.linear(x[rows], w))

    if case.shape["how"] == "fused":
        from pruninfersim.measure.masked_gemm import masked_gemm as call
    else:
        call = gathered
    sets = make.many(operands)

    def compare() -> tuple[Tensor, Tensor]:
        x, w, rows, out = sets[0]
        out.fill_(float("nan"))  # a row that is not written cannot pass
        some = rows[:: max(1, kept // CHECKED_ROWS)]
        return call(x, w, rows, out)[some], x[some].float() @ w.float().T

    return Bench(tuple(partial(call, *s) for s in sets), compare)


def elementwise(case: Case, make: Maker) -> Bench:
    """One elementwise kernel of a layer."""
    m, width = sizes(case, "m", "k")
    op = str(case.shape["op"])
    fused = layer.Elementwise(compiled=op in ("norm", "act", "rope"))
    if op == "norm":
        sets = make.many(lambda: (make.normal(m, width), make.normal(m, width), make.normal(width)))
        return _fused(fused.add_norm, layer.add_norm, sets)
    if op == "act":
        return _fused(fused.act, layer.act, make.many(lambda: (make.normal(m, width), make.normal(m, width))))
    if op == "rope":
        at = layer.rotation(torch.arange(m, device=make.device), HEAD_DIM, torch.bfloat16)
        heads = width // HEAD_DIM  # four of five are query heads, as in Llama-3.1-8B

        def turned() -> tuple[Tensor, ...]:
            return (make.normal(1, m, heads * 4 // 5, HEAD_DIM), make.normal(1, m, heads // 5, HEAD_DIM), at, at)

        return _fused(fused.rope, layer.rope, make.many(turned))
    if op == "kv_append":
        caches = make.many(lambda: (make.normal(m, 4, width), make.normal(m, width)))
        return Bench(
            tuple(partial(c[:, 2].copy_, new) for c, new in caches),
            lambda: (caches[0][0][:, 2].copy_(caches[0][1]), caches[0][1]),
        )
    if op == "embedding":
        table = make.normal(VOCABULARY, width)
        ids = make.many(lambda: torch.randint(VOCABULARY, (m,), device=make.device))
        calls = tuple(partial(F.embedding, some, table) for some in ids)
        return Bench(calls, lambda: (F.embedding(ids[0], table), table.float()[ids[0]]))
    if op == "transpose":
        xs = make.many(lambda: make.normal(m, width))
        calls = tuple(partial(_transposed, x) for x in xs)
        return Bench(calls, lambda: (_transposed(xs[0]), xs[0].t()))
    if op == "mask_sort":
        xs = make.many(lambda: make.normal(m))
        calls = tuple(partial(torch.sort, x) for x in xs)
        return Bench(calls, lambda: (xs[0][torch.sort(xs[0])[1]], xs[0].cpu().sort()[0].to(make.device)))
    raise PruninfersimError(f"no elementwise op {op!r}")


def _transposed(x: Tensor) -> Tensor:
    return x.t().clone(memory_format=torch.contiguous_format)


def _fused(compiled: Any, plain: Any, sets: list[Any]) -> Bench:
    def flat(out: Any) -> Tensor:
        return torch.cat([t.float().flatten() for t in (out if isinstance(out, tuple) else (out,))])

    def compare() -> tuple[Tensor, Tensor]:
        return flat(compiled(*sets[0])), flat(plain(*(t.float() for t in sets[0])))

    return Bench(tuple(partial(compiled, *s) for s in sets), compare)


def launch(case: Case, make: Maker) -> Bench:
    """Kernels of one element, one after the other."""
    (kernels,) = sizes(case, "kernels")
    x = torch.zeros(1, device=make.device)

    def call() -> Tensor:
        for _ in range(kernels):
            x.add_(1.0)
        return x

    return Bench((call,), runs=kernels, graph=case.shape["mode"] == "graph")


def bandwidth(case: Case, make: Maker) -> Bench:
    """Copy, read or write of a large buffer."""
    (size,) = sizes(case, "bytes")
    op = str(case.shape["op"])
    sets = make.many(lambda: (make.normal(size // 2), make.normal(size // 2)))
    a, b = sets[0]
    if op == "copy":
        return Bench(tuple(partial(b.copy_, a) for a, b in sets), lambda: (b.copy_(a), a))
    if op == "read":
        return Bench(tuple(partial(torch.amax, a) for a, _ in sets), lambda: (a.amax(), a.float().max()))
    if op == "write":
        return Bench(tuple(partial(b.fill_, 1.5) for _, b in sets), lambda: (b.fill_(1.5), torch.full_like(b, 1.5)))
    raise PruninfersimError(f"no bandwidth test {op!r}")


#: Kind of case -> what builds its bench; attention and layers are in `pruninfersim.measure.benches_layer`.
BUILDERS: dict[str, Builder] = {
    "gemm": gemm,
    "gemm_misaligned": gemm,
    "router": gemm,
    "gemm_2of4": two_of_four,
    "low_rank": low_rank,
    "token_gemm": token_gemm,
    **{f"elementwise_{op}": elementwise for op in ELEMENTWISE},
    "launch": launch,
    "bandwidth": bandwidth,
}

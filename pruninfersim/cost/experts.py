"""What to say beside the time of a mixture of experts: which weights a small batch reads depends on the routing."""

from __future__ import annotations

import numpy as np

from pruninfersim.models.architectures.routing import active_share
from pruninfersim.trace import OpTrace
from pruninfersim.workload import ROUTINGS

#: Most experts read under one routing over fewest under another, up to which the difference is not worth a note.
ALIKE = 1.1
#: So many numbers of tokens of a sweep are looked at, from the fewest to the most.
LOOKED_AT = 16


def routing_notes(trace: OpTrace) -> tuple[str, ...]:
    """Say how many of the routed experts a pass reads under the assumed routing, and under others.

    Nothing for a single token, which reads its own experts under any routing, and for batches that read all of them.

    >>> from pruninfersim import Workload
    >>> from pruninfersim.trace import trace
    >>> print(*routing_notes(trace("qwen3-30b-a3b", Workload.decode(batch=16))))
    routed experts: 16 tokens read 64 % of them under uniform routing, which is assumed here, and 46 % ...
    >>> routing_notes(trace("qwen3-30b-a3b", Workload.decode(batch=1)))
    ()
    """
    mixtures = np.flatnonzero(trace.mask(kernels=["moe"]))
    if not mixtures.size or trace.workload is None:
        return ()
    op = trace.select(mixtures[:1])
    tokens, experts, each = (
        x.reshape(-1) for x in np.broadcast_arrays(op.sequences, op.batch, op.m * op.batch / op.sequences)
    )
    _, first = np.unique(tokens, return_index=True)
    some = first[np.unique(np.linspace(0, first.size - 1, LOOKED_AT).astype(np.intp))]
    tokens, experts, each = (x[some] for x in (tokens, experts, each))
    shares = {name: active_share(tokens, each, experts, name) for name in ROUTINGS}
    apart = np.max(list(shares.values()), axis=0) / np.min(list(shares.values()), axis=0)
    if (apart < ALIKE).all():
        return ()
    at, assumed = int(np.argmax(apart)), trace.workload.routing
    others = sorted((float(share[at]), name) for name, share in shares.items() if name != assumed)
    fewest, most = (f"{100 * share:.0f} % ({name})" for share, name in (others[0], others[-1]))
    return (
        f"routed experts: {tokens[at]:.0f} tokens read {100 * shares[assumed][at]:.0f} % of them under {assumed} "
        f"routing, which is assumed here, and {fewest} to {most} under others; say which with "
        f"Workload.{trace.workload.phase}(..., routing=...)",
    )

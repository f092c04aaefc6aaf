"""Mixture of experts: a router, routed experts in one fused kernel, shared experts as an ordinary MLP."""

from __future__ import annotations

from collections.abc import Sequence

from pruninfersim._util.records import Record
from pruninfersim.models.architectures.mlp import MLP
from pruninfersim.models.architectures.rows import Row, Rows


class MoE(Record):
    """Sizes of a mixture of experts.

    Attributes
    ----------
    experts, top_k : int
        Routed experts, and how many of them a token goes through.
    inter : int
        Width of one expert.
    gated : bool
        Whether experts have a gate; Nemotron-3 has none.
    shared_inter : int
        Width of all shared experts together, which every token passes, 0 if there are none.
    shared_gate : bool
        A gate of one output on the shared expert (Qwen).
    router_bias : bool
        One bias per expert (DeepSeek-V3's score correction).
    biases : bool
        Experts with biases (gpt-oss).
    latent : int
        Width that routed experts read and write, between two projections that all tokens pass (Nemotron-3 Super); 0 if
        it is the hidden size.

    >>> MoE(experts=8, top_k=2, inter=14336).parameters(4096)
    1409318912
    """

    experts: int
    top_k: int
    inter: int
    gated: bool = True
    shared_inter: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    biases: bool = False
    latent: int = 0

    def _expert(self, hidden: int) -> int:
        return MLP(inter=self.inter, gated=self.gated, bias=self.biases).parameters(self.latent or hidden)

    def _common(self, hidden: int) -> int:
        shared = MLP(inter=self.shared_inter, gated=self.gated).parameters(hidden) if self.shared_inter else 0
        router = self.experts * hidden + self.router_bias * self.experts
        return shared + self.shared_gate * hidden + router + 2 * self.latent * hidden

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMMs, router left out."""
        width = self.latent or hidden
        routed = (2 + self.gated) * width * self.experts * self.inter
        return routed + (2 + self.gated) * hidden * self.shared_inter + 2 * self.latent * hidden

    def parameters(self, hidden: int) -> int:
        """Return all parameters."""
        return self._common(hidden) + self.experts * self._expert(hidden)

    def active(self, hidden: int) -> int:
        """Return the parameters that a token uses: those of its own experts, and what all tokens pass."""
        return self._common(hidden) + self.top_k * self._expert(hidden)

    def rows(self, make: Rows, layers: Sequence[int], hidden: int) -> list[Row]:
        """Return the rows of some layers, folded."""
        width = self.latent or hidden
        rows = [
            make.router(layers, self.experts, hidden),
            make.experts(layers, self.experts, self.top_k, width, self.inter, gated=self.gated),
        ]
        if self.latent:
            rows[1] |= {"k_axis": "latent"}
            rows.insert(1, make.gemm("latent_in", "mlp", layers, self.latent, hidden, "latent", "hidden"))
            rows.append(make.gemm("latent_out", "mlp", layers, hidden, self.latent, "hidden", "latent"))
        if self.shared_inter:
            rows += MLP(inter=self.shared_inter, gated=self.gated).rows(make, layers, hidden)
            rows += [make.elementwise("add_shared", "elementwise", "mlp", layers, hidden, "hidden", reads=2.0)]
        return rows

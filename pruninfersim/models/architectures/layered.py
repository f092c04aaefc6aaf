"""Models whose layers differ, or are made of other parts than a dense decoder's: one description per layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruninfersim._util.records import Record
from pruninfersim.models.architectures.attention import Attention
from pruninfersim.models.architectures.linear_attention import DeltaNet, Mamba2
from pruninfersim.models.architectures.mla import MLA
from pruninfersim.models.architectures.mlp import MLP, Linear
from pruninfersim.models.architectures.moe import MoE
from pruninfersim.models.architectures.rows import Row, Rows
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    from pruninfersim.models.config import ModelConfig

Mixer = Attention | MLA | Mamba2 | DeltaNet | Linear
FFN = MLP | MoE | Linear


class Layer(Record):
    """What one layer is made of.

    Attributes
    ----------
    mixer : Attention, MLA, Mamba2, DeltaNet or Linear, optional
        None where the layer has none (a pruned sub-layer, a layer of a hybrid that is an MLP only).
    ffn : MLP, MoE or Linear, optional
    parallel : bool
        Whether both read the same input, so that their outputs are added at once (Falcon, GPT-NeoX, Cohere).
    norms : int
        Norms over the residual width.
    norm_bias : bool
        Whether these are LayerNorms with a bias.

    >>> Layer(mixer=Attention(heads=32, kv_heads=8, head_dim=128), ffn=MLP(inter=14336)).parameters(4096)
    218112000
    """

    mixer: Mixer | None = None
    ffn: FFN | None = None
    parallel: bool = False
    norms: int = 2
    norm_bias: bool = False

    @property
    def parts(self) -> tuple[Mixer | FFN, ...]:
        """The sub-layers that there are."""
        return tuple(part for part in (self.mixer, self.ffn) if part is not None)

    def parameters(self, hidden: int) -> int:
        """Return all parameters."""
        return sum(part.parameters(hidden) for part in self.parts) + self._norms(hidden)

    def active(self, hidden: int) -> int:
        """Return the parameters that a token uses."""
        return sum(part.active(hidden) for part in self.parts) + self._norms(hidden)

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMMs."""
        return sum(part.weights(hidden) for part in self.parts)

    def _norms(self, hidden: int) -> int:
        return self.norms * hidden * (1 + self.norm_bias)


def layered_rows(model: ModelConfig, workload: Workload, dtype: str) -> list[Row]:
    """Return one row per distinct op of a forward pass; sub-layers that are alike are folded.

    Norms are counted as one before each sub-layer, with the residual add in the same kernel, and those of families that
    have more (Gemma) as further ones.
    """
    make, hidden = Rows.of(workload, dtype), model.hidden_size
    rows = [make.elementwise("embedding", "embedding", "embedding", (), hidden, "hidden")]
    for block in ("attention", "mlp"):
        groups: dict[tuple[Mixer | FFN, int, bool], list[int]] = {}
        for index, layer in enumerate(model.layers):
            part = layer.mixer if block == "attention" else layer.ffn
            if part is not None:
                groups.setdefault((part, layer.norms, layer.parallel), []).append(index)
        for (part, norms, parallel), layers in groups.items():
            opener = "attn_norm" if block == "attention" else "mlp_norm"
            if not (parallel and norms < 2 and block == "mlp"):
                rows += [make.norm(opener, block, layers, hidden)]
            rows += part.rows(make, layers, hidden)
            if norms >= 4:
                after = "post_attn_norm" if block == "attention" else "post_mlp_norm"
                rows += [make.norm(after, block, layers, hidden, reads=1.0, writes=1.0)]
    return [*rows, make.norm("final_norm", "head", (), hidden), make.head(model.vocab_size, hidden)]

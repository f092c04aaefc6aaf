"""MLPs of a layer: gated or not, with biases or not; and the single matrix that may stand for a sub-layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pruninfersim._util.records import Record
from pruninfersim.models.architectures.rows import Row, Rows


class MLP(Record):
    """Sizes of a dense MLP.

    Attributes
    ----------
    inter : int
        Width.
    gated : bool
        Whether there is a gate beside up (SwiGLU); OPT, Falcon, Nemotron have none.
    bias : bool

    >>> MLP(inter=14336).parameters(4096)
    176160768
    """

    inter: int
    gated: bool = True
    bias: bool = False

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMMs."""
        return (2 + self.gated) * hidden * self.inter

    def parameters(self, hidden: int) -> int:
        """Return all parameters."""
        return self.weights(hidden) + self.bias * ((1 + self.gated) * self.inter + hidden)

    def active(self, hidden: int) -> int:
        """Return the parameters that a token uses: all."""
        return self.parameters(hidden)

    def rows(self, make: Rows, layers: Sequence[int], hidden: int) -> list[Row]:
        """Return the rows of some layers, folded."""
        names = ("gate", "up") if self.gated else ("up",)
        return [
            *(make.gemm(name, "mlp", layers, self.inter, hidden, "ffn", "hidden") for name in names),
            make.elementwise("act", "act", "mlp", layers, self.inter, "ffn", reads=float(len(names))),
            make.gemm("down", "mlp", layers, hidden, self.inter, "hidden", "ffn"),
        ]


class Linear(Record):
    """One square matrix in place of a sub-layer (Puzzle: ``replace_with_linear``).

    >>> Linear(block="mlp").parameters(8)
    64
    """

    block: Literal["attention", "mlp"]

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMM."""
        return hidden * hidden

    parameters = active = weights

    def rows(self, make: Rows, layers: Sequence[int], hidden: int) -> list[Row]:
        """Return the row of some layers, folded."""
        return [make.gemm("linear", self.block, layers, hidden, hidden, "hidden", "hidden")]

"""Layers with a state in place of a KV cache: Mamba-2 (arXiv 2405.21060) and the gated delta net (arXiv 2412.06464).

Both are projections, a short causal convolution, and a recurrence whose state is [key width, value width] per head and
crosses memory once per pass. A prompt is worked off in chunks: inside of a chunk as attention, between chunks by the
state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruninfersim._util.records import Record
from pruninfersim.models.architectures.rows import Row, Rows

#: Tokens of a chunk: 128 in Nemotron-H's configuration (``chunk_size``), 64 in flash-linear-attention's delta net.
CHUNK = 128.0


def scan(make: Rows, layers: Sequence[int], heads: float, key: float, value: float, work: float) -> Row:
    """Return the recurrence of some layers.

    Parameters
    ----------
    key, value : float
        Sides of a head's state.
    work : float
        Multiply-adds of one token with the state, in units of key x value: 2 for Mamba-2 (update, output), 3 for the
        delta rule, which reads the old value as well.

    Written as attention is: ``n`` is the number of keys of width `value` that cost as much as a token does.
    """
    load = make.workload
    chunk = 0.0 if load.phase == "decode" else np.minimum(load.query_len, CHUNK) / 2.0 * (key + value)
    keys = (work * key * value + chunk) / (2.0 * value)
    return make.attention(layers, heads, heads, value) | {
        "name": "scan",
        "kernel": "linear_attention",
        "m": load.query_len,
        "n": keys,
        "b_bytes": 4.0,
        "b_batch": load.batch * heads * key / (2.0 * keys),
        "b_reads": 2.0,
        "mac_fraction": 1.0,
        "n_axis": "state",
        "k_axis": "state",
    }


class Mamba2(Record):
    """Sizes of a Mamba-2 mixer.

    >>> Mamba2(heads=64, head_dim=64, state=128, groups=8, conv=4).weights(2688)
    38707200
    """

    heads: int
    head_dim: int
    state: int
    groups: int
    conv: int

    @property
    def inner(self) -> int:
        """Width of the mixer."""
        return self.heads * self.head_dim

    def _mixed(self) -> int:
        return self.inner + 2 * self.groups * self.state

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMMs."""
        return hidden * (self.inner + self._mixed() + self.heads) + self.inner * hidden

    def parameters(self, hidden: int) -> int:
        """Return all parameters: weights, convolution with bias, A, D and dt per head, the gated norm."""
        return self.weights(hidden) + self._mixed() * (self.conv + 1) + 3 * self.heads + self.inner

    def active(self, hidden: int) -> int:
        """Return the parameters that a token uses: all."""
        return self.parameters(hidden)

    def rows(self, make: Rows, layers: Sequence[int], hidden: int) -> list[Row]:
        """Return the rows of some layers, folded."""
        made = self.inner + self._mixed() + self.heads
        return [
            make.gemm("in_proj", "attention", layers, made, hidden, "state", "hidden"),
            make.elementwise("conv", "elementwise", "attention", layers, self._mixed(), "state", reads=2.0),
            scan(make, layers, self.heads, self.state, self.head_dim, 2.0),
            make.elementwise("gated_norm", "norm", "attention", layers, self.inner, "state", writes=1.0),
            make.gemm("out_proj", "attention", layers, hidden, self.inner, "hidden", "state"),
        ]


class DeltaNet(Record):
    """Sizes of a gated delta net.

    >>> DeltaNet(key_heads=16, key_dim=128, value_heads=32, value_dim=128, conv=4).weights(2048)
    33685504
    """

    key_heads: int
    key_dim: int
    value_heads: int
    value_dim: int
    conv: int

    def _sizes(self) -> tuple[int, int]:
        return self.key_heads * self.key_dim, self.value_heads * self.value_dim

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMMs."""
        key, value = self._sizes()
        return hidden * (2 * key + 2 * value + 2 * self.value_heads) + value * hidden

    def parameters(self, hidden: int) -> int:
        """Return all parameters: weights, convolution, decay and step per head, the norm of a head."""
        key, value = self._sizes()
        return self.weights(hidden) + (2 * key + value) * self.conv + 2 * self.value_heads + self.value_dim

    def active(self, hidden: int) -> int:
        """Return the parameters that a token uses: all."""
        return self.parameters(hidden)

    def rows(self, make: Rows, layers: Sequence[int], hidden: int) -> list[Row]:
        """Return the rows of some layers, folded."""
        key, value = self._sizes()
        made = 2 * key + 2 * value + 2 * self.value_heads
        return [
            make.gemm("in_proj", "attention", layers, made, hidden, "state", "hidden"),
            make.elementwise("conv", "elementwise", "attention", layers, 2 * key + value, "state", reads=2.0),
            scan(make, layers, self.value_heads, self.key_dim, self.value_dim, 3.0),
            make.elementwise("gated_norm", "norm", "attention", layers, value, "state", writes=1.0),
            make.gemm("out_proj", "attention", layers, hidden, value, "hidden", "state"),
        ]

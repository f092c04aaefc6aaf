"""What is timed: one case per shape, and the columns that each kind of case has in its CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: Value of a shape column.
Value = int | float | str

#: Elementwise ops, each a kind of its own.
ELEMENTWISE = ("norm", "act", "rope", "embedding", "kv_append", "transpose", "mask_sort")
#: Kind of case -> shape columns of its file, in order. Kinds that `pruninfersim.calibrate` knows have its columns;
#: the others avoid that set of names, so that no file is taken for another kind.
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gemm": ("m", "n", "k"),
        "gemm_misaligned": ("m", "n", "k"),
        "router": ("m", "n", "k"),
        "gemm_2of4": ("m", "n", "k", "sparsity"),
        "low_rank": ("tokens", "outputs", "inputs", "rank"),
        "token_gemm": ("tokens", "outputs", "inputs", "keep", "how"),
        "attention_prefill": ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len"),
        "attention_decode": ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len"),
        "block_sparse_prefill": ("batch", "heads", "kv_heads", "head_dim", "queries", "keys", "keep", "block"),
        "block_sparse_decode": ("batch", "heads", "kv_heads", "head_dim", "queries", "keys", "keep", "block"),
        **{f"elementwise_{op}": ("op", "m", "k") for op in ELEMENTWISE},
        "launch": ("mode", "kernels"),
        "bandwidth": ("op", "bytes"),
        "layer": ("model", "method", "sparsity", "phase", "batch", "context"),
    }
)


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes
    ----------
    suite : str
        Suite that asked for it.
    kind : str
        Key of `COLUMNS`; names the file.
    dtype : str
        Precision, a key of `pruninfersim.hardware.precision.PRECISIONS`.
    shape : mapping of str to int, float or str
        Value of each shape column.
    flops : float
        FLOPs of one run [1].
    traffic : float
        Bytes that one run has to move through HBM; decides how many copies it takes to leave L2 behind [B].
    launches : float
        Kernels of one run [1].
    setup : float
        Time to make the operands and to compile, on an ordinary host [s].
    """

    suite: str
    kind: str
    dtype: str
    shape: Mapping[str, Value] = field(hash=False)
    flops: float = 0.0
    traffic: float = 0.0
    launches: float = 1.0
    setup: float = 0.3

    @property
    def key(self) -> str:
        """What tells the case from others of its kind: dtype and shape, as written to the file."""
        return ",".join([self.dtype, *self.cells])

    @property
    def cells(self) -> list[str]:
        """Shape columns as text, in the order of the file.

        >>> Case("gemm", "gemm", "bf16", {"m": 8, "n": 4096, "k": 0.5}).cells
        ['8', '4096', '0.5']
        """
        return [as_text(self.shape[name]) for name in COLUMNS[self.kind]]

    def __str__(self) -> str:
        shape = " ".join(f"{name}={as_text(self.shape[name])}" for name in COLUMNS[self.kind])
        return f"{self.kind} {self.dtype} {shape}"


def as_text(value: Value) -> str:
    """Return a cell of the file; whole numbers have no decimal point.

    >>> as_text(4096.0), as_text(0.25), as_text("copy")
    ('4096', '0.25', 'copy')
    """
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"

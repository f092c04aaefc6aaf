"""Precisions of the linear layers: which tensor-core rate they use and how many bytes an element takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import unknown_name

T = TypeVar("T", float, FloatArray)

#: Precisions that a peak can be given for and a model can be stored in.
DTYPES = ("bf16", "fp16", "fp8", "fp4", "int8", "tf32", "fp32")


@dataclass(frozen=True)
class Precision:
    """How linear layers compute and store.

    Attributes
    ----------
    dtype : str
        Name of the format, which kernels are chosen by.
    weight_bytes, input_bytes, output_bytes : float
        Bytes per element of the weights, of the activations read, and of the result [B]. Attention, KV cache,
        norms and the LM head stay in 16 bit where the linear layers use 8 or 4 bit. Scales that come with the
        elements count.
    peak : str
        Precision of the multiplications, a key of `HardwareProfile.peak`; default is `dtype`.
    """

    dtype: str
    weight_bytes: float
    input_bytes: float
    output_bytes: float
    peak: str = ""

    @property
    def weight_only(self) -> bool:
        """Whether weights are narrower than what they are multiplied with: a kernel widens them on the way."""
        return self.weight_bytes < self.input_bytes and self.input_bytes >= 2.0


#: fp4 is NVFP4: 4-bit values and one 8-bit scale per 16 of them (OCP microscaling style), 0.5625 B per element.
#: fp8_block is that of DeepSeek-V3 (arXiv 2412.19437, section 3.3): an fp32 scale per 128 inputs of a token and per
#: 128 x 128 weights. Weight-only int4 has a 16-bit scale per 128 weights, as GPTQ and AWQ checkpoints do as a rule.
#: mxfp4 has an 8-bit scale per 32 of 4 bit: 4.25 bit a weight (gpt-oss, arXiv 2508.10925); its activations stay in 16
#: bit, as in the kernels of gpt-oss for Hopper.
PRECISIONS = {
    "bf16": Precision("bf16", 2.0, 2.0, 2.0),
    "fp16": Precision("fp16", 2.0, 2.0, 2.0),
    "fp32": Precision("fp32", 4.0, 4.0, 4.0),
    "tf32": Precision("tf32", 4.0, 4.0, 4.0),
    "fp8": Precision("fp8", 1.0, 1.0, 2.0),
    "int8": Precision("int8", 1.0, 1.0, 2.0),
    "fp4": Precision("fp4", 0.5625, 0.5625, 2.0),
    "nvfp4": Precision("nvfp4", 0.5625, 0.5625, 2.0, "fp4"),
    "fp8_block": Precision("fp8_block", 1.0 + 4.0 / 128**2, 1.0 + 4.0 / 128, 2.0, "fp8"),
    "int8_wo": Precision("int8_wo", 1.0, 2.0, 2.0, "bf16"),
    "int4_wo": Precision("int4_wo", 0.5 + 2.0 / 128, 2.0, 2.0, "bf16"),
    "mxfp4": Precision("mxfp4", 0.5 + 1.0 / 32, 2.0, 2.0, "bf16"),
}


#: Other spellings of a precision: those of torch and of PyTorch's JSON.
SPELLINGS = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32", "float8": "fp8",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8",
}  # fmt: skip


def spelled(name: object) -> str:
    """Return the name of a precision as used here; an unknown one passes in small letters.

    >>> spelled("torch.bfloat16"), spelled("BF16")
    ('bf16', 'bf16')
    """
    plain = str(name).strip().lower().removeprefix("torch.")
    return SPELLINGS.get(plain, plain)


def get(name: str) -> Precision:
    """Return the precision called `name`, also as torch spells it.

    Raises
    ------
    UnknownNameError
        If there is no such precision.

    >>> get("fp8").weight_bytes, get("bfloat16").dtype
    (1.0, 'bf16')
    """
    known = spelled(name)
    if known not in PRECISIONS:
        longer = [each for each in PRECISIONS if each.startswith(f"{known}_")]
        raise unknown_name("dtype", name, PRECISIONS, near=longer or None)
    return PRECISIONS[known]


#: Bytes of one scale of a group of integer weights: 16 bit, as GPTQ and AWQ checkpoints have.
SCALE = 2.0
#: Bytes of an integer weight without its scale.
BARE = {"int8": 1.0, "int8_wo": 1.0, "int4_wo": 0.5}


def weight_bytes(name: str, group: int | None = None) -> float:
    """Return the bytes per weight of a format, scales included; integer weights in groups of `group` [B].

    Raises
    ------
    UnknownNameError
        If there is no such precision.

    >>> weight_bytes("int4_wo", 32), weight_bytes("int4_wo"), weight_bytes("fp8", 32)
    (0.5625, 0.515625, 1.0)
    """
    bare = BARE.get(name)
    return get(name).weight_bytes if bare is None or group is None else bare + SCALE / group


def rate(name: str) -> str:
    """Return the precision of the multiplications of a format, a key of `HardwareProfile.peak`.

    >>> rate("nvfp4"), rate("int4_wo"), rate("fp8")
    ('fp4', 'bf16', 'fp8')
    """
    return (PRECISIONS[name].peak if name in PRECISIONS else "") or name


def activations(name: str) -> Precision:
    """Return the 16- or 32-bit precision in which the ops outside the linear layers run beside `name`.

    >>> activations("fp8").dtype
    'bf16'
    """
    precision = get(name)
    return precision if precision.weight_bytes >= 2 else PRECISIONS["bf16"]


#: Formats whose GEMMs no library runs with 2:4 weights: the kernels of the others are cuSPARSELt's. Sparse-Marlin
#: (2:4 x int4 in groups of 128, Ampere) has no timings here.
DENSE_ONLY = ("fp8_block", "nvfp4", "int8_wo", "int4_wo", "mxfp4")


#: Bytes of 2:4 metadata per dense weight element: a 2-bit index for each of the two kept values of four (Mishra et al.,
#: arXiv 2104.08378).
METADATA = 0.125


def sparse_bytes(weight_bytes: T) -> T:
    """Return bytes stored per dense weight element under 2:4: half of the values, and `METADATA` [B].

    >>> sparse_bytes(2.0) / 2.0, sparse_bytes(1.0)
    (0.5625, 0.625)
    """
    return weight_bytes / 2.0 + METADATA

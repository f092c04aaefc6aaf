"""What the columns and cells of a timings file say, whichever program wrote it: separators, units, names, numbers.

Only what is certain is inferred. What could mean two things is left as it is, to be refused with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from pruninfersim import hardware
from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import FileFormatError, UnknownNameError, shown
from pruninfersim.hardware import precision

#: Names of GPUs in public data sets that say less than they mean -> names used here.
GPU_NAMES = {"RTXPRO6000": "rtx-pro-6000-server"}
#: Names of precisions, in lower case -> names used here.
DTYPE_NAMES = {
    "bfloat16/kv_bfloat16": "bf16",
    "bf16->bf16": "bf16",
    "fp16->fp16": "fp16",
    "fp8e4m3->bf16": "fp8",
    "int8->bf16": "int8",
    "int8->int32": "int8",
}
#: Unit of a column of times -> microseconds.
MICROSECONDS = {
    "us": 1.0, "µs": 1.0, "μs": 1.0, "microseconds": 1.0, "ms": 1e3, "milliseconds": 1e3, "s": 1e6, "sec": 1e6,
    "seconds": 1e6, "ns": 1e-3, "nanoseconds": 1e-3,
}  # fmt: skip
SEPARATORS = (",", ";", "\t", "|")
_TIME = re.compile(r"(?:latency|time|duration|runtime)[\s_]*[(\[]?\s*([a-zµμ]+)\s*[)\]]?", re.I)


def separator(header: str) -> str:
    """Return what separates the columns of a file, by its header.

    >>> separator("gpu;dtype;m"), separator("gpu,dtype,m")
    (';', ',')
    """
    return max(SEPARATORS, key=header.count)


def column(name: str) -> tuple[str, float]:
    """Return the name of a column as used here, and the factor that makes its values microseconds.

    >>> column(" M "), column("latency_ms"), column("Latency (us)")
    (('m', 1.0), ('latency_us', 1000.0), ('latency_us', 1.0))
    """
    plain = name.strip().strip('"').lower()
    match = _TIME.fullmatch(plain)
    if match and match[1] in MICROSECONDS:
        return "latency_us", MICROSECONDS[match[1]]
    return plain, 1.0


def columns(names: Iterable[str], where: str) -> dict[str, tuple[str, float]]:
    """Return, for each column as used here, its name in the file and its factor to microseconds.

    Raises
    ------
    FileFormatError
        If two columns mean the same.
    """
    found: dict[str, tuple[str, float]] = {}
    for name in names:
        meaning, factor = column(str(name))
        if meaning in found:
            raise FileFormatError(
                f"{where}: columns {shown(found[meaning][0])} and {shown(name)} mean the same; keep one of them."
            )
        found[meaning] = (str(name), factor)
    return found


def gpu_name(text: str) -> str:
    """Return the name of a GPU as used here; one that no profile has, or that fits several, passes unchanged.

    >>> gpu_name("NVIDIA H100 80GB HBM3"), gpu_name("my-card")
    ('h100-sxm', 'my-card')
    """
    if text in GPU_NAMES:
        return GPU_NAMES[text]
    try:
        return hardware.get(text).name if text else text
    except UnknownNameError:
        return text


def dtype_name(text: str) -> str:
    """Return the name of a precision as used here; an unknown one passes unchanged.

    >>> dtype_name("torch.bfloat16"), dtype_name("BF16")
    ('bf16', 'bf16')
    """
    plain = precision.spelled(text)
    return DTYPE_NAMES.get(plain, plain)


def numbers(cells: Iterable[object], *, whole: bool) -> FloatArray:
    """Return the cells of a column as numbers, NaN where one is none or could be two.

    ``4,096`` in a column of whole numbers has a thousands separator, and ``13,9`` a decimal comma; in a column of times
    ``1,234`` could be both, unless another cell of the column shows which it is.

    >>> numbers(["4,096", "64"], whole=True).tolist(), numbers(["13,9", "1,234"], whole=False).tolist()
    ([4096.0, 64.0], [13.9, 1.234])
    """
    texts = [str(cell).strip() for cell in cells]
    thousands = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
    grouped = whole or any(thousands.fullmatch(text) and "." in text for text in texts)
    decimal = not grouped and any(re.fullmatch(r"\d+,(\d{1,2}|\d{4,})", text) for text in texts)
    out = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        plain = text.replace(",", "") if grouped and thousands.fullmatch(text) else text
        plain = plain.replace(",", ".") if decimal and re.fullmatch(r"\d+,\d+", plain) else plain
        try:
            out[i] = float(plain) if "_" not in plain else np.nan
        except ValueError:
            continue
    return out

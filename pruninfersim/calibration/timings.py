"""Timings of kernels: reading CSV files and public tables into one frame, and turning rows into ops."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pruninfersim._util.doors import door
from pruninfersim._util.files import TABLE, read_text
from pruninfersim._util.lazy import shows
from pruninfersim.calibration import aiconfigurator as public_tables
from pruninfersim.calibration import columns as meaning
from pruninfersim.calibration import kinds
from pruninfersim.calibration.checks import copies
from pruninfersim.errors import FileFormatError, InvalidInputError, shown, unknown_name
from pruninfersim.hardware.precision import PRECISIONS
from pruninfersim.trace import OpTrace

#: Columns of every timings file.
COMMON = ("gpu", "dtype", "latency_us")
#: At most this many bad lines are named in a message.
SHOWN = 5


@door
def read_timings(path: str | Path, *, kind: str | None = None) -> pd.DataFrame:
    """Read a CSV (or .csv.gz) of kernel timings.

    Parameters
    ----------
    path : str or Path
        Columns ``gpu``, ``dtype``, ``latency_us``, the shape columns of its kind (for a GEMM ``m``, ``n``, ``k``),
        and, if known, ``backend``. Lines that begin with # are comments. Separators (comma, semicolon, tab), the case
        of names, and units in the name of the column of times (``latency_ms``) are read as they are meant; GPUs may be
        called as `nvidia-smi` calls them, and precisions as torch does.
    kind : str, optional
        Kind of kernel; default is the one whose columns the file has.

    Returns
    -------
    DataFrame
        One row per line, in the file's order, with GPU and dtype names as used here. ``attrs["kind"]`` is the kind
        and ``attrs["source"]`` the file's name.

    Raises
    ------
    FileFormatError
        If the file cannot be read, a column is missing, or a line is bad. Bad lines are named with the reason;
        none is dropped.
    UnknownNameError
        If `kind` is not known.

    >>> lines = ["# made up", "gpu,dtype,m,n,k,latency_us", "h100-sxm,bf16,16,4096,4096,13.9"]
    >>> _ = Path("my_gpu.csv").write_text("\\n".join(lines))
    >>> frame = read_timings("my_gpu.csv")
    >>> frame.attrs["kind"], frame.latency_us.tolist()
    ('gemm', [13.9])
    """
    path = Path(path)
    try:
        written = io.StringIO(read_text(path, TABLE), newline=None)  # lines end as the three systems end them
        every = {i: line for i, line in enumerate(written, start=1) if line.strip() and not line.startswith("#")}
        header = next(iter(every.values()), "")
        first = next(iter(every), 0)
        # Files that were joined have their header more than once.
        lines = {i: line for i, line in every.items() if i == first or line.strip() != header.strip()}
        content = io.StringIO("".join(lines.values()))
        text = pd.read_csv(
            content, dtype=str, keep_default_na=False, skip_blank_lines=False, sep=meaning.separator(header)
        )
    except FileNotFoundError:
        columns = ", ".join(COMMON)
        raise FileFormatError(f"{path}: there is no such file; give a CSV with columns {columns}, ...") from None
    except (OSError, EOFError, ValueError) as error:  # UnicodeDecodeError and those of pandas among them
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
        raise FileFormatError(f"{path}: not a readable CSV file ({reason})") from None
    numbered = list(lines)[1:]
    frame = parse(text, kind=kind, where=str(path), lines=numbered)
    again = copies(text)
    if again:
        pairs = ", ".join(f"line {numbered[j]} repeats line {numbered[i]}" for i, j in again[:SHOWN])
        more = f" and {len(again) - SHOWN} more" if len(again) > SHOWN else ""
        raise FileFormatError(
            f"{path}: {pairs}{more}, the time included: are these files that were joined twice? Remove the copies."
        )
    frame.attrs["source"] = path.name
    return frame


@door
def parse(
    text: pd.DataFrame,
    *,
    kind: str | None = None,
    where: str = "timings",
    first_line: int | None = None,
    lines: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Check and convert a frame of timings whose cells may still be text.

    Parameters
    ----------
    text : DataFrame
    kind : str, optional
        Kind of kernel; default is the one whose columns the frame has.
    where : str
        Name of the source, for messages.
    first_line : int
        Line number of the first row in its file, for messages; default is to count rows from 0.
    lines : sequence of int, optional
        Line number of every row, where they do not follow one another.

    Raises
    ------
    FileFormatError
        If a column is missing or a row is bad.
    """
    named = meaning.columns(text.columns, where)
    columns = {name: text[own] for name, (own, _) in named.items()}
    kind = kind or _guess_kind(columns, where)
    spec = kinds.get(kind)
    missing = [name for name in (*COMMON, *spec.shape, *spec.labels) if name not in columns]
    if missing:
        needed = ", ".join((*COMMON, *spec.shape, *spec.labels))
        raise FileFormatError(
            f"{where}: no column {', '.join(missing)}. A {kind} file has {needed} and optionally backend; "
            f"this one has {', '.join(columns)}."
        )
    frame = pd.DataFrame(index=range(len(text)))
    bad: list[tuple[int, str]] = []
    for name in ("gpu", "backend", "dtype", *spec.labels):
        if name in columns:
            frame[name] = columns[name].astype(str).str.strip().to_numpy()
            bad += [(i, f"{name} is empty") for i in _where(frame[name] == "") if name != "backend"]
    for name, known_as in (("gpu", meaning.gpu_name), ("dtype", meaning.dtype_name)):
        frame[name] = frame[name].map({each: known_as(each) for each in frame[name].unique()})
    known = frame["dtype"].isin(list(PRECISIONS)) | (frame["dtype"] == "")
    bad += [(i, f"dtype {shown(frame['dtype'].iat[i])} is not one of {', '.join(PRECISIONS)}") for i in _where(~known)]
    for name in (*spec.shape, *(name for name in spec.optional if name in columns), "latency_us"):
        raw = columns[name].tolist()
        whole = name != "latency_us"
        values = pd.to_numeric(columns[name], errors="coerce").to_numpy(dtype=np.float64)
        if np.isnan(values).any():
            values = meaning.numbers(raw, whole=whole)
        if name in spec.optional:
            values = np.where([str(cell).strip() in ("", "nan") for cell in raw], 0.0, values)
        wrong = ~np.isfinite(values) | (values < 0 if name in spec.optional else values <= 0)
        bad += [(i, f"{name} is {shown(raw[i])}, not a positive number") for i in _where(wrong)]
        part = ~wrong & (values != np.floor(values)) if whole else np.zeros(len(raw), dtype=bool)
        bad += [(i, f"{name} is {shown(raw[i])}, not a whole number") for i in _where(part)]
        frame[name] = values * named[name][1]
    if bad:
        numbered = lines if lines is not None else range(first_line or 0, (first_line or 0) + len(frame))
        unit = "row" if lines is None and first_line is None else "line"
        raise FileFormatError(_complaint(where, [(numbered[i], why) for i, why in bad], len(frame), unit))
    frame.attrs.update(kind=kind, source=str(where))
    return frame


@door
def aiconfigurator(system: str, op: str = "gemm", *, grid: bool = True, root: Path | None = None) -> pd.DataFrame:
    """Return the public timings of a GPU in PyPI aiconfigurator-core 0.12.0 (ai-dynamo/aiconfigurator, Apache-2.0).

    Needs the optional extra ``pruninfersim[aiconfigurator]``. Dense GEMM, bf16 and fp8, two campaigns (TensorRT-LLM
    and SGLang) under a CUDA graph. With ``grid=True`` these are exactly the rows that the shipped coefficients are
    fitted to, so that ``calibrate("gemm", aiconfigurator("h100-sxm"), "h100-sxm", dtype="bf16")`` repeats the fit.

    Parameters
    ----------
    system : str
        The package's own name, for instance ``"h100_sxm"``, or the name of the profile, ``"h100-sxm"``.
    op : {"gemm"}
    grid : bool
        Only the shapes that the shipped coefficients are fitted to: m a power of two up to 8192, n and k of twelve
        sizes from 512 to 16384.
    root : Path, optional
        Folder of the package; default is where it is installed.

    Raises
    ------
    UnknownNameError, MissingValueError, FileFormatError
        For a GPU without tables, a package that is not installed, a table that is not as in this release.
    """
    if op != "gemm":
        raise unknown_name("op of aiconfigurator", op, ["gemm"])
    names = {system.name: name for name, system in public_tables.SYSTEMS.items()}
    rows = public_tables.read_gemm(names.get(system, system), grid=grid, root=root)
    return parse(rows, kind=op, where=public_tables.SOURCE)


def _where(mask: ArrayLike) -> list[int]:
    """Return the positions at which a mask holds."""
    return [int(i) for i in np.flatnonzero(mask)]


def _guess_kind(columns: dict[str, Any], where: str) -> str:
    """Return the kind with the most columns that are all present."""
    fitting = [
        (len(spec.shape) + len(spec.labels), kind)
        for kind, spec in kinds.KERNELS.items()
        if all(name in columns for name in (*spec.shape, *spec.labels))
    ]
    if not fitting:
        known = "; ".join(f"{kind}: {', '.join((*s.shape, *s.labels))}" for kind, s in kinds.KERNELS.items())
        raise FileFormatError(f"{where}: columns {', '.join(columns)} fit no kind of kernel. Needed are, for {known}.")
    most = max(size for size, _ in fitting)
    return next(kind for size, kind in fitting if size == most)


def _complaint(where: str, bad: list[tuple[int, str]], total: int, unit: str) -> str:
    """One message that names the first few bad lines and says how many there are."""
    lines: dict[int, list[str]] = {}
    for row, reason in sorted(bad, key=lambda item: item[0]):
        lines.setdefault(row, []).append(reason)
    shown = "; ".join(f"{unit} {line}: {', '.join(reasons)}" for line, reasons in list(lines.items())[:SHOWN])
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    verb = "is" if len(lines) == 1 else "are"
    return (
        f"{where}: {len(lines)} of {total} {unit}s {verb} bad. {shown}{more}. Correct or remove them; nothing was read."
    )


@door
def as_ops(kind: str, frame: pd.DataFrame) -> OpTrace:
    """Return the ops that the rows of a timings frame measured, one op per row, sweep shape ().

    >>> frame = pd.DataFrame({"dtype": ["bf16"], "m": [8], "n": [4096], "k": [4096]})
    >>> as_ops("gemm", frame).flops.tolist()
    [268435456.0]
    """
    spec = kinds.get(kind)
    missing = [name for name in ("dtype", *spec.shape, *spec.labels) if name not in frame.columns]
    if missing:
        raise InvalidInputError(f"timings of kind {kind} have a column {', '.join(missing)}; this frame lacks it")
    return spec.as_ops(frame)


__all__ = ["aiconfigurator", "as_ops", "parse", "read_timings"]

__dir__ = shows(__all__)

"""Which calibration prices a GPU: its own, or that of the most similar GPU that was timed."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pruninfersim import kinds
from pruninfersim.calibration_record import Band, Calibration, Residuals, write_toml
from pruninfersim.errors import MissingValueError
from pruninfersim.hardware import HardwareProfile, get, profiles_directory
from pruninfersim.kernels.base import parameters

#: File beside the calibrations that says what carrying over costs, measured by leaving out every GPU in turn.
ERRORS_FILE = "carried_over.toml"
#: Where that is not known, the band of the calibration that is carried over is widened by this (an assumption: for
#: dense GEMM the measured factor is about 2).
WIDENING = 2.0
#: Precision -> precisions whose kernels it may borrow, best first. 16-bit formats share kernels.
SAME_KERNELS: dict[str, tuple[str, ...]] = {"bf16": ("bf16", "fp16"), "fp16": ("fp16", "bf16")}
SIMILAR_KERNELS: dict[str, tuple[str, ...]] = {
    "fp8": ("fp8", "int8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
    "fp4": ("fp4", "fp8", "bf16"),
}


def _capability(hardware: HardwareProfile) -> str:
    return hardware.compute_capability


def _generation(hardware: HardwareProfile) -> str:
    """Architecture and major compute capability: Ampere and Ada share 8, data-centre and other Blackwell a name."""
    return f"{hardware.architecture.split()[0]} {hardware.compute_capability.split('.')[0]}"


def _memory(hardware: HardwareProfile) -> str:
    """Vendor and kind of memory: data-centre parts stack HBM, all others have GDDR or LPDDR."""
    return f"{hardware.vendor} {'HBM' if hardware.memory_type.upper().startswith('HBM') else 'other'}"


def _kernels(hardware: HardwareProfile) -> str:
    """Compute capability, and whether tensor cores run at half rate: such cards do not meet their power limit."""
    return f"{hardware.compute_capability} {kinds.tensor_rate(hardware)}"


#: What makes two GPUs similar, most telling first: same kernels at the same rate, same kernels, same generation, same
#: class of memory.
SIMILARITY: tuple[Callable[[HardwareProfile], str], ...] = (_kernels, _capability, _generation, _memory)


def nearest_calibration(
    kind: str, dtype: str, hardware: HardwareProfile, *, leave_out: Sequence[str] = ()
) -> tuple[Calibration, bool]:
    """Return the calibration that fits a GPU best, and whether it is carried over from elsewhere.

    A calibration of this very GPU comes first. Otherwise parameters of timed GPUs carry over, as all of them are
    fractions or seconds: those of the GPUs most alike by compute capability, else generation, else class of memory,
    else all; of several, the geometric mean.

    Parameters
    ----------
    kind : str
        Kind of kernel, for instance ``"gemm"``.
    dtype : str
        Compute dtype; 16-bit formats share kernels, other 8- and 4-bit formats borrow from each other.
    hardware : HardwareProfile
    leave_out : sequence of str
        GPUs whose calibrations are not used (to measure what carrying over costs).

    Returns
    -------
    calibration : Calibration
    extrapolated : bool

    Raises
    ------
    MissingValueError
        If nothing of this kind is calibrated.
    """
    kinds.get(kind)
    for name in SAME_KERNELS.get(dtype, (dtype,)):
        known = {gpu: c for gpu, c in _shipped(kind, name).items() if gpu not in leave_out}
        if hardware.name in known:
            return known[hardware.name], False
    for name in SIMILAR_KERNELS.get(dtype, SAME_KERNELS.get(dtype, (dtype, "bf16"))):
        known = {gpu: c for gpu, c in _shipped(kind, name).items() if gpu not in leave_out}
        if known:
            return _carried_over(kind, known, hardware), True
    raise MissingValueError(
        f"no calibration of {kind} for {dtype} is shipped. Fit one with pruninfersim.calibrate, or use stack='ideal'."
    )


def starting_kernel(kind: str, dtype: str, hardware: HardwareProfile) -> Any:
    """Return the kernel model that a fit with few rows starts from: carried over, or the defaults if nothing can be."""
    try:
        return nearest_calibration(kind, dtype, hardware)[0].kernel
    except MissingValueError:
        return kinds.get(kind).start(hardware)


def _carried_over(kind: str, known: dict[str, Calibration], hardware: HardwareProfile) -> Calibration:
    """Average the calibrations of the GPUs most alike `hardware`."""
    alike = list(known.values())
    for trait in kinds.get(kind).similarity or SIMILARITY:
        matching = [c for c in known.values() if trait(get(c.hardware)) == trait(hardware)]
        if matching:
            alike = matching
            break
    first = alike[0]
    means: dict[str, Any] = {
        name: float(np.exp(np.mean([np.log(getattr(c.kernel, name)) for c in alike])))
        for name in parameters(first.kernel)
    }
    spec = kinds.get(kind)
    if spec.variant is not None:
        means |= spec.variant(hardware)
    kernel = replace(first.kernel, **means)
    if spec.carry is not None:
        kernel = spec.carry(kernel, get(first.hardware), hardware)
    residual, error = _carried_over_error(kind, first)
    return replace(
        first,
        kernel=kernel,
        source="; ".join(dict.fromkeys(c.source for c in alike)),
        held_out_error=error,
        residual=residual,
        bands=(Band(np.inf, residual.low, residual.high),),
    )


def _carried_over_error(kind: str, calibration: Calibration) -> tuple[Residuals, float]:
    """Return the residuals and the error to expect where a calibration is carried over to another GPU.

    Measured by leaving out every GPU in turn, where the shipped file says so; else the GPU's own, widened.
    """
    measured = _load_errors(profiles_directory() / "calibrations" / ERRORS_FILE).get(f"{kind}-{calibration.dtype}")
    if measured is None:
        own = calibration.residual
        wide = Residuals(own.low * WIDENING, own.median, own.high * WIDENING, own.robust_sd * WIDENING)
        return wide, calibration.held_out_error * WIDENING
    entry = dict(measured)
    error = entry.pop("error")
    return Residuals(**entry), error


def write_carried_over_error(key: str, residual: Residuals, error: float, directory: Path | None = None) -> Path:
    """Note the error of carried-over calibrations of `key` (kind-dtype) in the shipped file, and return its path.

    Parameters
    ----------
    key : str
        For instance ``"gemm-bf16"``.
    residual : Residuals
        Pooled over GPUs that were left out in turn.
    error : float
        Their mean absolute error, as a fraction.
    directory : Path, optional
        Folder of the calibrations; default is the shipped one.
    """
    file = (directory or profiles_directory() / "calibrations") / ERRORS_FILE
    known = dict(_load_errors(file))
    known[key] = {**asdict(residual), "error": error}
    head = (
        "# ln(measured / predicted) on GPUs that were left out: what to expect of a calibration that is carried over."
    )
    write_toml(file, {}, {name: known[name] for name in sorted(known)}, head=head)
    return file


def _load_errors(file: Path) -> dict[str, dict[str, float]]:
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _shipped(kind: str, dtype: str) -> dict[str, Calibration]:
    """Return the shipped calibrations of a kind and precision by GPU name."""
    directory = profiles_directory() / "calibrations"
    files = sorted(directory.glob(f"*/{kind}-{dtype}.toml"))
    return {file.parent.name: _load(file, file.stat().st_mtime_ns) for file in files}


@lru_cache(maxsize=256)
def _load(file: Path, modified: int) -> Calibration:
    return Calibration.from_toml(file)

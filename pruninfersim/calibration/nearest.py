"""Which calibration prices a GPU: its own, or that of the most similar GPU that was timed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pruninfersim._util.toml import write_toml
from pruninfersim.calibration import kinds
from pruninfersim.calibration.record import Band, Calibration, Residuals
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.hardware import HardwareProfile, get, precision, profiles_directory, traits
from pruninfersim.kernels.base import parameters
from pruninfersim.kernels.evidence import Spread

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
    "fp8_block": ("fp8_block",),
    "nvfp4": ("nvfp4",),
    "int8_wo": ("int8_wo",),
    "int4_wo": ("int4_wo",),
}


#: Narrow formats whose GEMMs were timed against the 16-bit set of the same card (validation/accuracy_quantised.py).
TIMED_NARROW = ("fp8",)

#: What makes two GPUs similar, most telling first: same kernels at the same rate, same kernels, same generation, same
#: class of memory.
SIMILARITY: tuple[Callable[[HardwareProfile], str], ...] = (
    traits.capability_and_rate,
    traits.capability,
    traits.generation,
    traits.vendor_and_memory,
)
#: How much wider the bands are on accelerators whose libraries nobody timed here: an assumption, nothing measured.
OTHER_VENDOR = 2.0


def nearest_calibration(
    kind: str,
    dtype: str,
    hardware: HardwareProfile,
    *,
    leave_out: Sequence[str] = (),
    own: Sequence[Calibration] = (),
) -> tuple[Calibration, bool]:
    """Return the calibration that fits a GPU best, and whether it is carried over from elsewhere.

    A calibration of this very GPU comes first, one's own before the shipped one; a card that is said to be of the same
    silicon as another one shares its calibrations, and a clone begins with those of its parent. Otherwise parameters of
    timed GPUs carry over, as all of them are fractions, seconds or bytes per clock: those of the GPUs most alike by
    compute capability, else generation, else class of memory, else all; of several, the geometric mean. What depends
    on the cards, such as their power limit, is converted first.

    Parameters
    ----------
    kind : str
        Kind of kernel, for instance ``"gemm"``.
    dtype : str
        Format; 16-bit formats share kernels, others borrow from each other, or, where the parameters of the kernel do
        not depend on the width of its operands, take the 16-bit set, unless the card has a fit of this very format.
    hardware : HardwareProfile
    leave_out : sequence of str
        GPUs whose calibrations are not used (to measure what carrying over costs).
    own : sequence of Calibration
        Calibrations of this GPU that take the place of shipped ones.

    Returns
    -------
    calibration : Calibration
    extrapolated : bool

    Raises
    ------
    MissingValueError
        If nothing of this kind is calibrated.
    InvalidInputError
        If one of `own` is of another GPU.
    """
    check_own(own, hardware)
    # A fit of one's own comes before the shipped ones, and one of this very format before what another says of it.
    fitted = any((mine.kind, mine.dtype) == (kind, dtype) for mine in own)
    if not any(mine.kind == kind for mine in own):
        fitted = any(gpu not in leave_out for gpu in _own_files(kind, dtype, hardware))
    if kinds.get(kind).one_set and precision.get(dtype).weight_bytes < 2.0 and not fitted:
        found, extrapolated = nearest_calibration(kind, "bf16", hardware, leave_out=leave_out, own=own)
        return _narrowed(kind, found, dtype), extrapolated or dtype not in TIMED_NARROW
    for name in SAME_KERNELS.get(dtype, (dtype,)):
        for calibration in reversed(own):  # the last word counts
            if (calibration.kind, calibration.dtype) == (kind, name):
                return calibration, False
        known = {gpu: file for gpu, file in _shipped(kind, name).items() if gpu not in leave_out}
        for gpu in _own_files(kind, name, hardware):
            if gpu in known:
                return _read(known[gpu]), False
    for name in SIMILAR_KERNELS.get(dtype, SAME_KERNELS.get(dtype, (dtype, "bf16"))):
        known = {gpu: file for gpu, file in _shipped(kind, name).items() if gpu not in leave_out}
        if hardware.parent in known:
            known = {hardware.parent: known[hardware.parent]}
        if known:
            return _carried_over(kind, {gpu: _read(file) for gpu, file in known.items()}, hardware), True
    raise MissingValueError(
        f"no calibration of {kind} for {dtype} is shipped. Fit one with pruninfersim.calibrate, or use stack='ideal'."
    )


def _narrowed(kind: str, wide: Calibration, dtype: str) -> Calibration:
    """Return a calibration of 16-bit operands as one of narrow ones, with the error that this has shown."""
    narrow = replace(wide, dtype=dtype)
    residual, error = _carried_over_error(kind, narrow)
    band = (Band(np.inf, residual.low, residual.high),)
    return replace(narrow, held_out_error=error, residual=residual, bands=band)


def timed(kind: str, dtype: str, hardware: HardwareProfile) -> bool:
    """Return whether a shipped calibration of a kind and format is of this very GPU, or of a card of its silicon.

    >>> timed("gemm", "bf16", get("h100-sxm")), timed("gemm", "bf16", get("rtx-3090"))
    (True, False)
    """
    return bool(_own_files(kind, dtype, hardware))


def check_own(own: Sequence[Calibration], hardware: HardwareProfile) -> None:
    """Raise InvalidInputError unless all calibrations are of this GPU."""
    for calibration in own:
        if not isinstance(calibration, Calibration):
            raise InvalidInputError(
                f"calibrations must hold what calibrate() returns; got {type(calibration).__name__}. Read a file with "
                "Calibration.from_toml"
            )
        if calibration.hardware != hardware.name:
            raise InvalidInputError(
                f"this calibration of {calibration.kind} is of {calibration.hardware}, not of {hardware.name}; build "
                "the stack for the GPU that was timed"
            )


def band(kind: str, calibration: Calibration, extrapolated: bool, hardware: HardwareProfile) -> Spread:
    """Return the 90 % band of a calibration on a GPU: its own, or what leaving a GPU out of the fits has shown.

    Never narrower than that of the calibration itself; wider on accelerators whose libraries nobody timed.

    >>> calibration, extrapolated = nearest_calibration("gemm", "bf16", get("rtx-5090"))
    >>> extrapolated, band("gemm", calibration, extrapolated, get("rtx-5090")).high
    (True, 0.42)
    """
    own = calibration.spread
    if not extrapolated:
        return own
    wide = kinds.get(kind).left_out
    left_out = Spread(min(wide.low, own.low), max(wide.high, own.high), wide.common)
    return left_out if hardware.vendor == "NVIDIA" else left_out.widened(OTHER_VENDOR)


def starting_kernel(kind: str, dtype: str, hardware: HardwareProfile) -> Any:
    """Return the kernel model that a fit with few rows starts from: carried over, or the defaults if nothing can be."""
    try:
        return kinds.get(kind).as_usual(nearest_calibration(kind, dtype, hardware)[0].kernel)
    except MissingValueError:
        return kinds.get(kind).start(hardware)


def _carried_over(kind: str, known: dict[str, Calibration], hardware: HardwareProfile) -> Calibration:
    """Average the calibrations of the GPUs most alike `hardware`."""
    spec = kinds.get(kind)
    timed_on = {c.hardware: get(c.hardware) for c in known.values()}
    alike = list(known.values())
    for trait in spec.similarity or SIMILARITY:
        matching = [c for c in known.values() if trait(timed_on[c.hardware]) == trait(hardware)]
        if matching:
            alike = matching
            break
    first = alike[0]
    carried = [spec.carry(c.kernel, timed_on[c.hardware], hardware) if spec.carry else c.kernel for c in alike]
    means: dict[str, Any] = {
        name: float(np.exp(np.mean([np.log(getattr(kernel, name)) for kernel in carried])))
        for name in parameters(first.kernel)
    }
    if spec.variant is not None:
        means |= spec.variant(hardware)
    kernel = replace(first.kernel, **means)
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
    return _errors(file, file.stat().st_mtime_ns) if file.exists() else {}


@lru_cache(maxsize=2)
def _errors(file: Path, modified: int) -> dict[str, dict[str, float]]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _shipped(kind: str, dtype: str) -> dict[str, Path]:
    """Return the files of the shipped calibrations of a kind and precision by GPU name."""
    with os.scandir(profiles_directory() / "calibrations") as entries:
        folders = sorted((entry.path, entry.stat().st_mtime_ns) for entry in entries if entry.is_dir())
    return _listed(tuple(folders)).get(f"{kind}-{dtype}", {})


@lru_cache(maxsize=2)
def _listed(folders: tuple[tuple[str, int], ...]) -> dict[str, dict[str, Path]]:
    """Return the files of folders by their name and that of the folder; listed again if a folder has changed."""
    listed: dict[str, dict[str, Path]] = {}
    for folder, _ in folders:
        for file in Path(folder).glob("*.toml"):
            listed.setdefault(file.stem, {})[file.parent.name] = file
    return listed


def _own_files(kind: str, dtype: str, hardware: HardwareProfile) -> list[str]:
    """Return the names, this card's and that of its silicon, under which a calibration is shipped."""
    known = _shipped(kind, dtype)
    return [gpu for gpu in (hardware.name, hardware.silicon) if gpu in known]


def _read(file: Path) -> Calibration:
    """Return the calibration in a file, read again only if the file is another one."""
    return _load(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _load(file: Path, modified: int) -> Calibration:
    return Calibration.from_toml(file)

"""Hardware profiles: what a GPU can do at most, in SI units, each number with its source."""

from __future__ import annotations

import contextlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from pruninfersim._util.doors import door, doors
from pruninfersim._util.records import FrozenDict, Record, modified_from
from pruninfersim.errors import FileFormatError, InvalidInputError, MissingValueError, shown, unknown_name
from pruninfersim.hardware import precision
from pruninfersim.hardware.clock import reserve
from pruninfersim.hardware.folders import SEARCH_PATH_VARIABLE, file_of, files, profiles_directory
from pruninfersim.hardware.names import find
from pruninfersim.hardware.precision import DTYPES
from pruninfersim.hardware.reach import FIGURES, REACH, check_reach
from pruninfersim.hardware.toml import read_profile

__all__ = ["DTYPES", "SEARCH_PATH_VARIABLE", "HardwareProfile", "get", "load", "names", "profiles_directory"]

#: Where a profile has no clock: FLOP per clock and SM of the vector units, 128 lanes of NVIDIA (GA102 and later) and
#: Xe cores; and, without an fp32 figure either, a clock in the middle of what accelerators run at [Hz].
VECTOR_FLOPS = 256.0
COMMON_CLOCK = 1.7e9


@doors
class HardwareProfile(Record):
    """One GPU. All figures are data-sheet figures; a missing one is ``None`` and raises when asked for.

    Attributes
    ----------
    name : str
        Registry name, for instance ``"h100-sxm"``.
    title : str
        Name as the vendor writes it.
    vendor, architecture, compute_capability : str
    sm_count : int
        Units that matrix work is spread over: streaming multiprocessors (NVIDIA), compute units (AMD), Xe cores
        (Intel Arc), matrix engines (Gaudi) or TensorCores (TPU).
    boost_clock, base_clock, max_clock : float or None
        Clocks of the data sheet, and the highest that the driver allows where that is above the boost clock [Hz].
    memory_type : str
    memory_size : float
        [B]
    memory_bandwidth : float
        [B/s]
    l2_size : float or None
        Cache between the compute units and the memory [B]. Vendors print MB and often mean MiB; the profiles take
        1 MB = 1e6 B, as the calibrations do.
    interconnect_bandwidth : float or None
        Scale-up links of one device, both directions added [B/s].
    peak : dict
        Dense peak by dtype, tensor cores, fp32 accumulation (int32 for int8; fp32: vector units) [FLOP/s].
    peak_2of4 : dict
        2:4 sparse peak by dtype, counting the zeros as work [FLOP/s].
    tdp : float or None
        [W]
    silicon : str
        Name of the profile whose die, clocks and memory this card has too: its kernels, and what was fitted to them,
        are those of that card. Empty if it is a card of its own.
    parent : str
        Name of the profile that a clone was made from (of its `silicon`, if it has one): what was fitted to that card
        carries over to the clone before anything else does, so that a clone differs from it in its figures only.
    tensor_rate : {"full", "half"}
        Whether tensor cores do 16-bit work with fp32 accumulation at their full rate, or at half of it as on GeForce
        and some other cards (512 FLOP per SM and clock). A trait of the product, not a figure: a clone keeps it.
    dies : int
        Devices that the module is to software, each with an equal part of all figures: a kernel runs on one of them.
    sources : dict
        Source of each figure, by field name (``"peak.bf16"`` for a peak).
    reference : str
        Where the profile comes from as a whole.
    notes : str
        Conflicts between sources and how they were resolved.

    Raises
    ------
    InvalidInputError
        If a field is missing, unknown, or not a positive number.

    >>> get("h100-sxm").memory_bandwidth
    3350000000000.0
    """

    name: str = Field(min_length=1)
    title: str
    vendor: str
    architecture: str
    compute_capability: str = ""
    sm_count: int = Field(gt=0)
    boost_clock: float | None = Field(default=None, gt=0)
    base_clock: float | None = Field(default=None, gt=0)
    max_clock: float | None = Field(default=None, gt=0)
    memory_type: str
    memory_size: float = Field(gt=0)
    memory_bandwidth: float = Field(gt=0)
    l2_size: float | None = Field(default=None, gt=0)
    interconnect_bandwidth: float | None = Field(default=None, gt=0)
    peak: dict[str, float]
    peak_2of4: dict[str, float] = {}
    tdp: float | None = Field(default=None, gt=0)
    silicon: str = ""
    parent: str = ""
    tensor_rate: Literal["full", "half"] = "full"
    dies: int = Field(default=1, gt=0)
    sources: dict[str, str] = {}
    reference: str = Field(min_length=1)
    notes: str = ""

    @field_validator("peak", "peak_2of4")
    @classmethod
    def _known_positive(cls, peaks: dict[str, float]) -> dict[str, float]:
        for dtype, value in peaks.items():
            if dtype not in DTYPES:
                raise ValueError(str(unknown_name("dtype", dtype, DTYPES)))
            if value <= 0:
                raise ValueError(f"{dtype} must be above 0 FLOP/s")
            check_reach(dtype, value, "peak")
        return FrozenDict(peaks)

    @field_validator(*FIGURES)
    @classmethod
    def _of_a_gpu(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None:
            check_reach(str(info.field_name), value)
        return value

    @field_validator("sources")
    @classmethod
    def _read_only(cls, sources: dict[str, str]) -> dict[str, str]:
        return FrozenDict(sources)

    def peak_flops(self, dtype: str, *, sparse: bool = False) -> float:
        """Return the peak rate for `dtype` [FLOP/s]; with `sparse` the 2:4 rate, zeros counted as work.

        Raises
        ------
        MissingValueError
            If the profile has no such figure.

        >>> get("a100-sxm-80gb").peak_flops("bf16", sparse=True)
        624000000000000.0
        """
        table = self.peak_2of4 if sparse else self.peak
        dtype = precision.rate(dtype)
        if dtype not in table:
            kind = "2:4 sparse " if sparse else ""
            known = ", ".join(sorted(table)) or "none"
            raise MissingValueError(
                f"{self.name} has no {kind}peak for {shown(dtype)}. It has: {known}. "
                "Choose another dtype or GPU, or give a profile of your own with that figure."
            )
        return table[dtype]

    @property
    def device(self) -> HardwareProfile:
        """What one kernel can use: the profile itself, or one die of a module of several.

        >>> get("mi250x").device.peak["bf16"] == get("mi250x-gcd").peak["bf16"]
        True
        """
        if self.dies == 1:
            return self
        parts = ("memory_size", "memory_bandwidth", "l2_size", "tdp")
        figures = {name: getattr(self, name) / self.dies for name in parts if getattr(self, name) is not None}
        for table in ("peak", "peak_2of4"):
            figures[table] = FrozenDict({dtype: rate / self.dies for dtype, rate in getattr(self, table).items()})
        return self.model_copy(update={**figures, "sm_count": max(self.sm_count // self.dies, 1), "dies": 1})

    @property
    def clock(self) -> float:
        """Clock of the SMs [Hz]: the boost clock; without one, what the fp32 peak says, else a common one.

        >>> get("h100-sxm").clock / 1e9, round(get("rtx-pro-6000-max-q").clock / 1e9, 2)
        (1.98, 2.41)
        """
        if self.boost_clock is not None:
            return self.boost_clock
        return self.peak["fp32"] / (self.sm_count * VECTOR_FLOPS) if "fp32" in self.peak else COMMON_CLOCK

    def ridge_point(self, dtype: str = "bf16", *, sparse: bool = False) -> float:
        """Return the arithmetic intensity above which work is compute-bound at best [FLOP/B].

        Source: Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785.

        Raises
        ------
        MissingValueError
            If the profile has no peak for `dtype`.

        >>> round(get("a100-sxm-80gb").ridge_point("bf16"))
        153
        """
        return self.peak_flops(dtype, sparse=sparse) / self.memory_bandwidth

    @cached_property
    def clock_reserve(self) -> float:
        """Factor between the highest rate that the tensor cores can reach and the peak of the data sheet, at least 1.

        See `pruninfersim.hardware.clock.reserve`.

        >>> round(get("h100-sxm").clock_reserve, 3), round(get("a100-sxm-80gb").clock_reserve, 3)
        (1.082, 1.0)
        """
        peak = self.peak.get("bf16") or self.peak.get("fp16")
        clocks = [clock for clock in (self.boost_clock, self.max_clock) if clock]
        return reserve(peak / self.sm_count, *clocks) if peak and clocks else 1.0

    def clone(self, name: str, **changes: Any) -> HardwareProfile:
        """Return a renamed copy with some figures changed; its reference says what it was modified from.

        Parameters
        ----------
        name : str
            Name of the copy.
        **changes
            New values in SI units, by field name. ``peak`` and ``peak_2of4`` replace only the dtypes they give. Peaks
            are of the whole GPU: more SMs at the same peak are slower SMs.

        Raises
        ------
        InvalidInputError
            If a field is unknown or a value is not allowed.

        >>> faster = get("h100-sxm").clone("h100-hbm4", memory_bandwidth=6e12)
        >>> faster.memory_bandwidth, faster.reference[:36]
        (6000000000000.0, 'modified from h100-sxm (memory_bandw')
        """
        fields = {key: getattr(self, key) for key in type(self).model_fields}
        sources = dict(self.sources)
        for key, value in changes.items():
            if key in ("peak", "peak_2of4") and isinstance(value, dict):
                sources |= {f"{key}.{dtype}": f"changed from {self.name}" for dtype in value}
                value = {**fields[key], **value}
            elif key in sources:
                sources[key] = f"changed from {self.name}"
            fields[key] = value
        fields["sources"] = {**sources, **changes.get("sources", {})}
        fields["name"] = name
        fields["silicon"] = changes.get("silicon", "")
        fields["parent"] = self.parent or self.silicon or self.name
        fields["reference"] = modified_from(self.name, changes, str(fields["reference"]))
        return HardwareProfile(**fields)

    def __repr__(self) -> str:
        fastest = "bf16" if "bf16" in self.peak else next(iter(self.peak), None)
        rate = f"{self.peak[fastest] / 1e12:.5g} TFLOP/s {fastest}, " if fastest else ""
        return (
            f"<HardwareProfile {self.name}: {self.title}, {rate}{self.memory_bandwidth / 1e9:.5g} GB/s, "
            f"{self.memory_size / 1e9:.4g} GB; {self.reference}>"
        )

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title} ({self.vendor} {self.architecture})", f"reference: {self.reference}"]
        for key, value, unit in self._figures():
            lines.append(f"  {key:<22} {value:>12.6g} {unit:<7} {self.sources.get(key, '')}".rstrip())
        return "\n".join([*lines, f"notes: {self.notes}"] if self.notes else lines)

    def _figures(self) -> list[tuple[str, float, str]]:
        """Return (name, SI value, unit) of every figure that the profile has."""
        rows = [("sm_count", self.sm_count, ""), *((key, getattr(self, key), REACH[key][2]) for key in FIGURES)]
        rows += [("dies", self.dies, "")] if self.dies > 1 else []
        rows += [(f"peak.{dtype}", value, "FLOP/s") for dtype, value in self.peak.items()]
        rows += [(f"peak_2of4.{dtype}", value, "FLOP/s") for dtype, value in self.peak_2of4.items()]
        return [row for row in rows if row[1] is not None]


@door
def get(name: str | Path | HardwareProfile, path: str | Path | None = None) -> HardwareProfile:
    """Return the profile called `name`.

    Searched in this order, the first hit wins: the directory `path`, the directories in the environment variable
    ``PRUNINFERSIM_HARDWARE_PATH``, the built-in profiles. A profile of your own may thus replace a built-in one.

    Parameters
    ----------
    name : str, Path or HardwareProfile
        Registry name (file name without ``.toml``), or what `nvidia-smi`, torch or a data sheet calls the GPU, such as
        ``"NVIDIA H100 80GB HBM3"``; the path of a ``.toml`` file; or a profile, which is returned.
    path : str or Path, optional
        Directory with profiles of your own.

    Raises
    ------
    UnknownNameError
        If there is no such profile, with the nearest; or if the name fits several, such as ``"A100"``, with those.
    InvalidInputError
        If `path` or a directory in the environment variable does not exist.
    FileFormatError
        If the file cannot be understood.

    >>> get("a100-sxm-80gb").sm_count
    108
    >>> get("Tesla T4").name
    't4'
    """
    if isinstance(name, HardwareProfile):
        return name
    if isinstance(name, Path) or str(name).endswith(".toml"):
        return load(name)
    file = file_of(str(name), path)
    if file is None:
        return get(find(str(name), _readable(path)), path)
    profile = load(file)
    if profile.name != name:
        raise FileFormatError(f"{file}: name: is {shown(profile.name)}; it must be the file's name, {name!r}.")
    return profile


@door
def load(file: str | Path) -> HardwareProfile:
    """Return the profile in a TOML file; read once, and again if the file has changed.

    Raises
    ------
    FileFormatError
        If the file cannot be read or understood; the message names file, key and what is allowed.

    >>> load(profiles_directory() / "l40s.toml").memory_bandwidth / 1e9
    864.0
    """
    file = Path(file)
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "its name holds a null character")
        raise FileFormatError(f"{file}: cannot be read ({reason}). Give the path of a TOML file.") from None
    return _load(file.absolute(), status.st_mtime_ns, status.st_size)


@door
def names(path: str | Path | None = None) -> list[str]:
    """Return the names of all profiles that `get` finds, sorted.

    >>> "h100-sxm" in names()
    True
    """
    return sorted(files(path))


def _readable(path: str | Path | None) -> dict[str, HardwareProfile]:
    """Return all profiles by name, but for files that hold none."""
    found = {}
    for name, file in files(path).items():
        with contextlib.suppress(FileFormatError):
            found[name] = load(file)
    return found


@lru_cache(maxsize=512)
def _load(file: Path, modified: int, size: int) -> HardwareProfile:
    """Parse a file; `modified` and `size` are there so that a changed file is read again."""
    fields = read_profile(file)
    try:
        return HardwareProfile(**fields)
    except InvalidInputError as error:
        raise FileFormatError(f"{file}: {error}") from None

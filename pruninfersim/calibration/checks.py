"""What timings must be before anything is fitted to them: of one GPU, no copies of each other, and possible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pruninfersim import hardware as profiles
from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.hardware import HardwareProfile

if TYPE_CHECKING:
    import pandas as pd

#: Fewest rows of a fit: below, the error on rows left out says nothing.
FEWEST_ROWS = 8
#: Median of measured / expected beyond which no kernel of that GPU is meant, either way.
ABSURD = 30.0
#: Factor between what a column says and what it holds -> the unit that was meant.
MEANT = {1e-3: "milliseconds", 1e-6: "seconds", 1e3: "nanoseconds"}


def check_cache(cache: object) -> None:
    """Raise InvalidInputError unless timings can have been taken that way.

    >>> check_cache("cold")
    """
    if cache not in ("cold", "replayed"):
        raise InvalidInputError(f"cache must be 'cold' or 'replayed'; got {shown(cache)}")


def rows_of(frame: pd.DataFrame, hardware: HardwareProfile | str | None = None) -> tuple[HardwareProfile, pd.DataFrame]:
    """Return the GPU that was timed and its rows.

    Parameters
    ----------
    frame : DataFrame
        As `pruninfersim.read_timings` returns it.
    hardware : HardwareProfile or str, optional
        The GPU; default is the one that the timings name. Rows of other GPUs are left out. A single name that no
        profile has is taken for this GPU.

    Raises
    ------
    InvalidInputError
        If the timings are of other GPUs, or nobody says of which.
    UnknownNameError
        If the timings name a GPU that no profile has, or that fits several.
    """
    found = list(dict.fromkeys(str(name) for name in frame["gpu"]))
    if hardware is None:
        if len(found) > 1:
            raise InvalidInputError(f"the timings are of several GPUs, {', '.join(found)}: say which to take")
        gpu = profiles.get(found[0])
    else:
        gpu = profiles.get(hardware)
    if gpu.name in found:
        kept = frame[frame["gpu"] == gpu.name].reset_index(drop=True)
    elif len(found) == 1 and found[0] not in profiles.names():
        kept = frame
    else:
        raise InvalidInputError(
            f"no timing is of {gpu.name}; these are of {', '.join(found)}. Give the profile of one of them"
        )
    kept.attrs.update(frame.attrs)
    return gpu, kept


def copies(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """Return pairs of rows, by position, of which the second repeats the first in every column.

    >>> import pandas as pd
    >>> copies(pd.DataFrame({"m": [1, 2, 1], "latency_us": [3.1, 4.2, 3.1]}))
    [(0, 2)]
    """
    again = frame.duplicated(keep="first").to_numpy()
    if not again.any():
        return []
    group = frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup().to_numpy()
    return [(int(np.flatnonzero(group == group[i])[0]), int(i)) for i in np.flatnonzero(again)]


def possible(measured: FloatArray, expected: FloatArray, gpu: str, where: str) -> None:
    """Check that timings are of the size that a GPU can have.

    Parameters
    ----------
    measured, expected : ndarray, shape (row,)
        Times, and what the kernel model expects before it is fitted [s].
    gpu, where : str
        For the message.

    Raises
    ------
    InvalidInputError
        If their median ratio is absurd, with the likely cause.
    """
    ratio = float(np.exp(np.median(np.log(measured / expected))))
    if 1.0 / ABSURD < ratio < ABSURD:
        return
    far = f"{1 / ratio:,.0f} times faster" if ratio < 1 else f"{ratio:,.0f} times slower"
    unit = next((unit for factor, unit in MEANT.items() if abs(math.log10(ratio / factor)) < 1.0), None)
    short = {"milliseconds": "ms", "seconds": "s", "nanoseconds": "ns"}
    cause = (
        f"latency_us seems to hold {unit}: name the column latency_{short[unit]}"
        if unit
        else f"check the unit of latency_us, and that these are timings of one kernel on {gpu}"
    )
    raise InvalidInputError(f"{where}: the times are {far} than {gpu} can be expected to be; {cause}")

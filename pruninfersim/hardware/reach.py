"""What a figure of a GPU can be: a number far beyond it is in another unit."""

from __future__ import annotations

#: What a figure of a GPU can be, a thousand times around what there is: beyond it the unit is wrong.
REACH: dict[str, tuple[float, float, str]] = {
    "boost_clock": (1e7, 1e11, "Hz"),
    "base_clock": (1e7, 1e11, "Hz"),
    "max_clock": (1e7, 1e11, "Hz"),
    "memory_size": (1e7, 1e14, "B"),
    "memory_bandwidth": (1e9, 1e16, "B/s"),
    "l2_size": (1e3, 1e12, "B"),
    "interconnect_bandwidth": (1e7, 1e16, "B/s"),
    "tdp": (0.1, 1e6, "W"),
    "peak": (1e9, 1e19, "FLOP/s"),
}
#: Figures of a profile that are one number each, in the order of tables.
FIGURES = tuple(name for name in REACH if name != "peak")


def check_reach(label: str, value: float, figure: str | None = None) -> None:
    """Raise if a figure cannot be that of a GPU in SI units; the message says what a unit too few does.

    Parameters
    ----------
    label : str
        What the message calls it.
    value : float
    figure : str, optional
        Key of `REACH`; default is the label.

    Raises
    ------
    ValueError
        As a validator of a record does.

    >>> check_reach("memory_bandwidth", 8000)
    Traceback (most recent call last):
    ValueError: memory_bandwidth must be 1e+09 to 1e+16 B/s, in SI units: 8000 GB/s is 8000e9, 80 GB is 80e9, ...
    """
    low, high, unit = REACH[figure or label]
    if not low <= value <= high:
        raise ValueError(
            f"{label} must be {low:g} to {high:g} {unit}, in SI units: 8000 GB/s is 8000e9, 80 GB is 80e9, "
            "989 TFLOP/s is 989e12"
        )

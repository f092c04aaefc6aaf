"""How far above the clock behind its data-sheet peak a card can run."""

from __future__ import annotations

import numpy as np

#: Least clock behind a stated peak over the boost clock: further off, the peak is not one of whole tensor cores.
CLOCK_SLACK = 0.85


def reserve(peak: float, *clocks: float) -> float:
    """Return the factor between the highest rate of the tensor cores and their stated peak, at least 1.

    A data sheet states the peak at a clock that a card sustains, and cards run above it. A tensor core does a power of
    two of FLOP per clock, so that the clock behind a peak can be told where the peak lies up to 15 % below that of the
    boost clock (H100 SXM: 989 TFLOP/s at 1830 MHz, but up to 1980 MHz).

    Parameters
    ----------
    peak : float
        Of one SM [FLOP/s].
    *clocks : float
        Boost clock, and the highest that the driver allows [Hz].

    >>> round(reserve(989.4e12 / 132, 1.98e9), 3)
    1.082
    """
    per_clock = peak / min(clocks)
    stated = per_clock / 2.0 ** np.round(np.log2(per_clock))
    return float(max(1.0, max(clocks) / (min(clocks) * (stated if stated >= CLOCK_SLACK else 1.0))))

"""The clock behind a data-sheet peak, above which a card can run."""

from __future__ import annotations

import numpy as np

#: Least clock behind a stated peak over the boost clock: further off, the peak is not one of whole tensor cores.
CLOCK_SLACK = 0.85


def behind_peak(peak: float, *clocks: float) -> float:
    """Return the clock that a data sheet states a peak at [Hz], as far as the figures betray it.

    A data sheet states the peak at a clock that a card sustains, and cards run above it. A tensor core does a power of
    two of FLOP per clock, so that the clock behind a peak can be told where the peak lies up to 15 % below that of the
    boost clock (H100 SXM: 989 TFLOP/s at 1830 MHz, but up to 1980 MHz); elsewhere it is the lowest of `clocks`.

    Parameters
    ----------
    peak : float
        Of one SM [FLOP/s].
    *clocks : float
        Boost clock, and the highest that the driver allows [Hz].

    >>> round(behind_peak(989.4e12 / 132, 1.98e9) / 1e9, 2)
    1.83
    """
    per_clock = peak / min(clocks)
    share = float(per_clock / 2.0 ** np.round(np.log2(per_clock)))
    return min(clocks) * (share if share >= CLOCK_SLACK else 1.0)

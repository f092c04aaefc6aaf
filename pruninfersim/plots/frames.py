"""What a figure may be made of: a frame of results, or the results themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pruninfersim.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

#: Columns without which a frame has no speedups to draw.
NEEDED = ("method", "estimated_speedup")


def as_frame(what: Any) -> pd.DataFrame:
    """Return the rows of a frame, of a result, or of a list of either.

    Raises
    ------
    InvalidInputError
        If it holds no speedups.

    >>> from pruninfersim import speedup
    >>> result = speedup(model="llama-3.1-8b", hardware="h100-sxm", method="low-rank", sparsity=0.5, stack="ideal")
    >>> len(as_frame([result, result]))
    2
    """
    import pandas as pd

    if isinstance(what, list | tuple) and what and not any(isinstance(each, list | tuple) for each in what):
        return pd.concat([as_frame(each) for each in what], ignore_index=True)
    frame = what.to_frame() if hasattr(what, "to_frame") and not isinstance(what, pd.Series) else what
    if not isinstance(frame, pd.DataFrame) or not set(NEEDED) <= set(frame.columns):
        raise InvalidInputError(
            f"nothing to draw speedups from in {type(what).__name__}; give a frame of pruninfersim.sweep or "
            "compare_hardware, or what speedup returns"
        )
    return frame

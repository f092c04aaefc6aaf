"""One page with every table and figure of arXiv 2606.09080 that can be predicted, measured beside predicted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pruninfersim import (
    pareto,
    reproduce_kernels,
    reproduce_page,
    reproduce_sections,
    reproduce_targets,
    reproduce_text,
)
from pruninfersim._files import atomically
from pruninfersim.errors import InvalidInputError
from pruninfersim.reproduce_page import Section
from pruninfersim.reproduce_passes import CURVE, SETTINGS, SPARSITIES, predicted, prefill_curves

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["full_grid", "sections", "write_reproduction"]

#: Columns of the file with the whole grid.
GRID_COLUMNS = {
    "model": "model", "hardware": "gpu", "dtype": "dtype", "method": "family", "phase": "phase", "batch": "batch",
    "context": "context", "sparsity": "sparsity", "estimated_speedup": "speedup", "estimated_low": "low",
    "estimated_high": "high", "dense_seconds": "dense_seconds", "pruned_seconds": "pruned_seconds",
}  # fmt: skip


def full_grid() -> pd.DataFrame:
    """Predict the whole grid of the paper: three settings, seven workloads, two phases, four sparsities, families.

    >>> grid = full_grid()
    >>> len(grid), sorted(set(grid.gpu))
    (1050, ['a800-80gb', 'rtx-pro-6000'])
    """
    import pandas as pd

    frame = pd.concat([predicted(*setting) for setting in SETTINGS], ignore_index=True)
    frame = frame.astype({"batch": int, "context": int, "dtype": str})
    return frame[list(GRID_COLUMNS)].rename(columns=GRID_COLUMNS)


def sections(grid: pd.DataFrame, csv: str) -> list[Section]:
    """Return the sections of the page.

    Parameters
    ----------
    grid : DataFrame
        Of `full_grid`.
    csv : str
        Name of the file that holds it.
    """
    make = reproduce_sections
    frame = predicted(*SETTINGS[0], sparsities=sorted({*SPARSITIES, *CURVE}))
    main = frame[frame["sparsity"].isin(SPARSITIES)]
    parts, shares = reproduce_kernels.figure6(), reproduce_kernels.figure2()
    best = pareto.frontier(prefill_curves(main))
    return [
        ("Summary", reproduce_targets.summary(main, best)),
        ("What was aimed at", reproduce_targets.targets(main, parts, shares, best)),
        ("Grid of speedups", make.grid(main)),
        ("Table 2: means over the workloads", make.table2(main)),
        ("Share of 1/(1-s)", make.realised(main)),
        ("Speedup over sparsity", make.curves(frame)),
        ("Quality and speed", make.frontier(main)),
        ("Fig. 2: where a dense pass spends its time", make.figure2(shares)),
        ("Fig. 6: one layer at 50 %", make.figure6(parts)),
        ("Tables 7 to 9 and crossovers", make.kernels()),
        ("The whole grid, predicted", make.whole_grid(grid, csv)),
        ("Constants and their anchors", [reproduce_text.counts_table(), reproduce_text.constants_table()]),
        ("What disagrees, and why", [reproduce_page.Points(reproduce_text.DISAGREES)]),
    ]


def write_reproduction(out: str | Path, markdown: str | Path | None = None) -> list[Path]:
    """Write the page, the whole predicted grid as CSV next to it and, if wanted, the page as Markdown.

    Parameters
    ----------
    out : str or Path
        HTML file; the grid goes into ``<name>-grid.csv`` beside it.
    markdown : str or Path, optional

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InvalidInputError
        If a directory does not exist or cannot be written to.

    >>> paths = write_reproduction("page.html")
    >>> [path.name for path in paths]
    ['page.html', 'page-grid.csv']
    """
    page, grid = Path(out), full_grid()
    csv = page.with_name(f"{page.stem}-grid.csv")
    blocks = sections(grid, csv.name)
    title, lead = reproduce_text.TITLE, reproduce_text.LEAD
    texts = {
        page: reproduce_page.to_html(title, lead, blocks),
        csv: grid.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
    }
    if markdown is not None:
        texts[Path(markdown)] = reproduce_page.to_markdown(title, lead, blocks, reproduce_text.COMMAND)
    for path, text in texts.items():
        try:
            atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))
        except OSError as error:
            raise InvalidInputError(
                f"cannot write {path}: {error.strerror}. Choose a file in a directory that exists"
            ) from None
    return list(texts)

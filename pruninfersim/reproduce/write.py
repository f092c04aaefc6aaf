"""One page with every table and figure of arXiv 2606.09080 that can be predicted, measured beside predicted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pruninfersim._util.doors import door
from pruninfersim._util.files import check_place, write_text
from pruninfersim.questions import pareto
from pruninfersim.report.blocks import Points, Section, to_html, to_markdown
from pruninfersim.reproduce import kernels, targets
from pruninfersim.reproduce import sections as make
from pruninfersim.reproduce import text as words
from pruninfersim.reproduce.passes import CURVE, SETTINGS, SPARSITIES, predicted, prefill_curves

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
    frame = predicted(*SETTINGS[0], sparsities=sorted({*SPARSITIES, *CURVE}))
    main = frame[frame["sparsity"].isin(SPARSITIES)]
    parts, shares = kernels.figure6(), kernels.figure2()
    best = pareto.frontier(prefill_curves(main))
    return [
        ("Summary", targets.summary(main, best)),
        ("What was aimed at", targets.targets(main, parts, shares, best)),
        ("Grid of speedups", make.grid(main)),
        ("Table 2: means over the workloads", make.table2(main)),
        ("Share of 1/(1-s)", make.realised(main)),
        ("Speedup over sparsity", make.curves(frame)),
        ("Quality and speed", make.frontier(main)),
        ("Fig. 2: where a dense pass spends its time", make.figure2(shares)),
        ("Fig. 6: one layer at 50 %", make.figure6(parts)),
        ("Tables 7 to 9 and crossovers", make.kernels()),
        ("The whole grid, predicted", make.whole_grid(grid, csv)),
        ("Constants and their anchors", [words.counts_table(), words.constants_table()]),
        ("What disagrees, and why", [Points(words.DISAGREES)]),
    ]


@door
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
    page = Path(out)
    csv = page.with_name(f"{page.stem}-grid.csv")
    for path in (page, csv) if markdown is None else (page, csv, Path(markdown)):
        check_place(path)
    grid = full_grid()
    blocks = sections(grid, csv.name)
    title, lead = words.TITLE, words.LEAD
    texts = {
        page: to_html(title, lead, blocks),
        csv: grid.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
    }
    if markdown is not None:
        texts[Path(markdown)] = to_markdown(title, lead, blocks, words.COMMAND)
    return [write_text(path, text) for path, text in texts.items()]

"""Which software runs which family of pruning today: a table as data, with source and date."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from pruninfersim._util.doors import door
from pruninfersim._util.lazy import shows
from pruninfersim.errors import unknown_name
from pruninfersim.pruning import METHODS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["availability", "availability_note"]

__dir__ = shows(__all__)

#: Answers that a table may give, and how sure they are.
ANSWERS = ("yes", "partly", "no", "unknown")
SURE = ("documented", "as told")


@cache
def _table() -> tuple[dict[str, str], ...]:
    text = (resources.files("pruninfersim.questions") / "availability.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple({key: value or "" for key, value in row.items()} for row in csv.DictReader(lines))


@door
def availability(family: str | None = None) -> pd.DataFrame:
    """Return which software runs a family of pruning, with source and date of each answer.

    Parameters
    ----------
    family : str, optional
        Name of a method; default is all of them.

    Returns
    -------
    DataFrame
        Columns family, software, runs ("yes", "partly", "no", "unknown"), how, source, date (of the source), sure
        ("documented" by the software itself, or "as told" by others).

    Raises
    ------
    UnknownNameError
        If no method has this name.

    >>> availability("semi-structured").query("runs == 'no'").software.tolist()
    ['vLLM']
    """
    import pandas as pd

    if family is not None and family not in METHODS:
        raise unknown_name("method", family, METHODS)
    kept = [row for row in _table() if family in (None, row["family"])]
    return pd.DataFrame(kept, columns=["family", "software", "runs", "how", "source", "date", "sure"])


def availability_note(family: str) -> str:
    """Return in one line which software is known to run a family, and which is known not to; empty for other methods.

    >>> availability_note("semi-structured")
    'semi-structured: PyTorch, cuSPARSELt, TensorRT, TensorRT-LLM (as told); not vLLM (as told): said to have ...'
    """
    mine = [row for row in _table() if row["family"] == family]
    parts = [
        ", ".join(_who(row) for row in mine if row["runs"] == "yes"),
        *(f"partly {_who(row)}: {row['how']}" for row in mine if row["runs"] == "partly"),
        *(f"not {_who(row)}: {row['how']}" for row in mine if row["runs"] == "no"),
    ]
    unknown = [row["software"] for row in mine if row["runs"] == "unknown"]
    if unknown:
        parts.append(f"{', '.join(unknown)} unknown")
    return f"{family}: {'; '.join(part for part in parts if part)}" if mine else ""


def _who(row: dict[str, str]) -> str:
    """Return the name of a software, with a word on how sure the answer is where its own documents do not say it."""
    return f"{row['software']} ({row['sure']})" if row["sure"] != "documented" else row["software"]

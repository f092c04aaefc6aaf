"""How frames are written: tables for a terminal, CSV and JSON for programs."""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pruninfersim.cli.options import Format


def show(frame: pd.DataFrame, output: Format, *, title: str, caption: str = "") -> None:
    """Write a frame to standard output."""
    if output is Format.csv:
        typer.echo(frame.to_csv(index=False), nl=False)
    elif output is Format.json:
        typer.echo(frame.to_json(orient="records", indent=2))
    else:
        # Square brackets are units here; rich would take them for markup.
        table = Table(
            title=escape(title), caption=escape(caption) or None, caption_justify="left", title_justify="left"
        )
        for name in frame.columns:
            numeric = pd.api.types.is_numeric_dtype(frame[name])
            table.add_column(escape(str(name)), justify="right" if numeric else "left")
        for _, row in frame.iterrows():
            table.add_row(*(escape(_cell(value)) for value in row))
        Console(width=None if sys.stdout.isatty() else max(120, 14 * len(frame.columns))).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)

"""TOML files: read with one clear line for what is wrong, and written, which the standard library does not do."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pruninfersim._util.files import read_text, write_text
from pruninfersim.errors import FileFormatError

#: Significant digits of numbers in a file: more than any standard error deserves, few enough to read.
DIGITS = 5


def read_toml(file: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises
    ------
    FileFormatError
        If the file cannot be read or is not valid TOML (for instance truncated).
    """
    try:
        return tomllib.loads(read_text(file))
    except OSError as error:
        raise FileFormatError(f"{file}: cannot be read ({error.strerror}). Give the path of a TOML file.") from None
    except UnicodeDecodeError:
        raise FileFormatError(f"{file}: is not UTF-8 text, so not a TOML file.") from None
    except RecursionError:
        raise FileFormatError(f"{file}: is nested too deeply for a TOML file of figures.") from None
    except ValueError as error:  # TOMLDecodeError, and a number of thousands of digits
        raise FileFormatError(f"{file}: is not valid TOML ({error}). Is the file complete?") from None


def write_toml(path: Path, entries: Mapping[str, Any], sections: Mapping[str, Any], *, head: str = "") -> Path:
    """Write a TOML file of top-level entries and sections (a list makes an array of tables) and return its path.

    The file appears at once or not at all, so that a reader never sees half of it.

    Raises
    ------
    InvalidInputError
        If it cannot be written.

    >>> file = write_toml(Path("made.toml"), {"kind": "gemm"}, {"band": [{"up_to": float("inf"), "low": -0.123456789}]})
    >>> read_toml(file)
    {'kind': 'gemm', 'band': [{'up_to': inf, 'low': -0.12346}]}
    """
    lines = [head] if head else []
    lines += _entries(entries)
    for name, section in sections.items():
        if isinstance(section, list):
            for item in section:
                lines += ["", f"[[{name}]]", *_entries(item)]
        elif section:
            lines += ["", f"[{name}]", *_entries(section)]
    return write_text(path, "\n".join(lines) + "\n", make_folder=True)


def _entries(entries: Mapping[str, Any]) -> list[str]:
    return [f"{_key(name)} = {_literal(value)}" for name, value in entries.items()]


def _key(name: str) -> str:
    """Return a bare key, or a quoted one where a name has spaces."""
    return name if name.replace("_", "a").replace("-", "a").isalnum() else json.dumps(name)


def _literal(value: Any) -> str:
    """TOML literal of a bool, number, text or list of those (the standard library reads TOML but does not write it)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        text = f"{float(value):.{DIGITS}g}"  # inf and nan are TOML too
        return text if any(c in text for c in ".en") else f"{text}.0"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return json.dumps(str(value), ensure_ascii=False)  # JSON's escapes are a subset of TOML's

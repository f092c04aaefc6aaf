"""Files of timings: one CSV per kind, comment lines on top, appended line by line so that a killed run resumes.

Every line that is not a comment is a timing that was taken and checked, so that `pruninfersim.read_timings`
reads the file as it is. Comments start with ``#``: the header says how the file came about; ``# failed`` lines hold,
as JSON, the shapes that could not be timed.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruninfersim.errors import FileFormatError
from pruninfersim.measure.cases import COLUMNS, Case, as_text

#: Columns before and after those of the shape.
IDENTITY = ("gpu", "backend", "dtype")
RESULTS = (
    "latency_us", "spread", "repeats", "calls", "copies", "error", "sm_mhz", "mem_mhz", "temperature_c", "power_w",
    "throttle",
)  # fmt: skip
#: First line of every file.
MAGIC = "# pruninfersim measure, format 1"
FAILED = "# failed "
DIGEST = "# digest: "


def columns_of(kind: str) -> tuple[str, ...]:
    """Return the columns of the file of a kind.

    >>> columns_of("gemm")[:7]
    ('gpu', 'backend', 'dtype', 'm', 'n', 'k', 'latency_us')
    """
    return (*IDENTITY, *COLUMNS[kind], *RESULTS)


@dataclass(frozen=True)
class Content:
    """What a file already holds.

    Attributes
    ----------
    digest : str
    done, failed : frozenset of str
        Keys of the cases that were timed, and of those that failed.
    size : int
        Bytes up to the end of the last whole line; what follows was cut off by a kill [B].
    """

    digest: str
    done: frozenset[str]
    failed: frozenset[str]
    size: int


def read(path: Path, kind: str) -> Content | None:
    """Return what the file of a kind holds, or None if there is none yet.

    Raises
    ------
    FileFormatError
        If it is not a file of this kind.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    size = raw.rfind(b"\n") + 1
    lines = raw[:size].decode("utf-8", errors="replace").splitlines()
    expected = ",".join(columns_of(kind))
    if not lines or (expected not in lines and not lines[0].startswith(MAGIC)):
        if not raw.strip() or MAGIC.encode().startswith(raw[: len(MAGIC)]):
            return None  # killed while the header was written
        raise FileFormatError(f"{path}: not a file of {kind} timings from this version; choose another --out")
    if expected not in lines:
        return None
    found = [line.removeprefix(DIGEST) for line in lines if line.startswith(DIGEST)]
    failed = frozenset(json.loads(line.removeprefix(FAILED))["key"] for line in lines if line.startswith(FAILED))
    start = len(IDENTITY) - 1
    stop = len(IDENTITY) + len(COLUMNS[kind])
    rows = csv.reader(line for line in lines if line and not line.startswith("#") and line != expected)
    done = frozenset(",".join(row[start:stop]) for row in rows)
    return Content(found[0] if found else "", done, failed, size)


class Recorder:
    """Appends results to the files of a folder; every line is on disk before the next case starts.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    header : mapping of str to object
        Facts for the comment lines on top (device, versions, protocol, date).
    digest : str
        What must be equal for timings to belong together, see `pruninfersim.measure.protocol.digest`.
    gpu, backend : str
        First columns of every line.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], digest: str, *, gpu: str, backend: str) -> None:
        self.folder, self.header, self.digest = folder, dict(header), digest
        self.gpu, self.backend = gpu, backend

    def path(self, kind: str) -> Path:
        """Return the file of a kind."""
        return self.folder / f"{kind}.csv"

    def resume(self, kinds: set[str], *, retry_failed: bool = False) -> frozenset[tuple[str, str]]:
        """Return (kind, key) of all cases that need not run again; lines that a kill cut off are removed.

        Raises
        ------
        FileFormatError
            If a file was written with another GPU, driver, torch, protocol or version of this code.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        done: set[tuple[str, str]] = set()
        for kind in sorted(kinds):
            path = self.path(kind)
            content = read(path, kind)
            if content is None:
                if path.exists():
                    path.unlink()
                continue
            if content.digest != self.digest:
                raise FileFormatError(
                    f"{path}: written with another GPU, driver, torch, protocol or version of pruninfersim (digest "
                    f"{content.digest or 'missing'}, now {self.digest}). Choose another --out, or remove the file"
                )
            os.truncate(path, content.size)
            done |= {(kind, key) for key in content.done}
            if not retry_failed:
                done |= {(kind, key) for key in content.failed}
        return frozenset(done)

    def success(self, case: Case, result: Mapping[str, Any]) -> None:
        """Append a timing; `result` has the columns of `RESULTS`."""
        cells = [as_text(v) if isinstance(v := result[name], (int, float)) else str(v) for name in RESULTS]
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([self.gpu, self.backend, case.dtype, *case.cells, *cells])
        self._append(case.kind, line.getvalue())

    def failure(self, case: Case, reason: str) -> None:
        """Append a comment that says why a case could not be timed."""
        clean = " ".join(reason.split())
        self._append(case.kind, FAILED + json.dumps({"key": case.key, "suite": case.suite, "reason": clean}) + "\n")

    def _append(self, kind: str, line: str) -> None:
        path = self.path(kind)
        text = line if path.exists() else self._head(kind) + line
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _head(self, kind: str) -> str:
        lines = [
            MAGIC,
            f"# kind: {kind}",
            *(f"# {k}: {_fact(v)}" for k, v in self.header.items()),
            DIGEST + self.digest,
        ]
        return "\n".join([*lines, ",".join(columns_of(kind))]) + "\n"


def _fact(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else json.dumps(value, sort_keys=True)

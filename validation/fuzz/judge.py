"""One input at a time, under limits of time and memory; what comes out is an answer, a refusal, or a fault."""

from __future__ import annotations

import contextlib
import io
import math
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import pruninfersim as pis
from pruninfersim.errors import LONGEST, PruninfersimError

#: CPU time, and time on the clock, that one input may take [s]: right questions take milliseconds.
CPU_LIMIT, WAIT_LIMIT = 10.0, 90.0
#: Memory that one input may take beside what is in use before the first one [B].
MEMORY_LIMIT = 3 * 2**30

ANSWER, REFUSED = "answer", "refused"
#: Answers that are shown, too.
RESULTS = (pis.Speedup, pis.Speedups, pis.Estimate, pis.Explanation, pis.OpTrace, pis.Workload, pis.Calibration)


@dataclass(frozen=True)
class Verdict:
    """What came of an input: "answer", "refused", or the kind of a fault with its detail."""

    kind: str
    detail: str = ""

    @property
    def fault(self) -> bool:
        """Whether it is neither an answer nor a refusal."""
        return self.kind not in (ANSWER, REFUSED)


class _TooSlow(BaseException):
    """Not an Exception, so that nobody takes it for an error of an argument."""


def limit_memory() -> None:
    """Let whatever takes more memory than `MEMORY_LIMIT` from now on fail with MemoryError."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise `_TooSlow` in what takes too long inside."""

    def stop(*_: Any) -> None:
        raise _TooSlow

    handlers = [(signal.SIGPROF, signal.ITIMER_PROF, CPU_LIMIT), (signal.SIGALRM, signal.ITIMER_REAL, WAIT_LIMIT)]
    for number, timer, limit in handlers:
        signal.signal(number, stop)
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for _, timer, _ in handlers:
            signal.setitimer(timer, 0.0)


def judged(call: Callable[[], Any], *, nan_is_fine: bool = False, signature: bool = False) -> Verdict:
    """Return what comes of a call.

    Parameters
    ----------
    call : callable
        Without arguments.
    nan_is_fine : bool
        Whether its answer may hold NaN, as a documented gap.
    signature : bool
        Whether a TypeError of Python about missing or unknown arguments is a refusal, as for constructors.
    """
    try:
        with limited(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            result = call()
            wrong = "" if nan_is_fine else wrong_number(result)
            if isinstance(result, RESULTS):
                text = f"{result!r} {result}"
                wrong = wrong or ("prints nan" if " nan" in text and not nan_is_fine else "")
    except PruninfersimError as error:
        return of_message(str(error))
    except _TooSlow:
        return Verdict("hang", "")
    except MemoryError:
        return Verdict("memory", "")
    except TypeError as error:
        if signature and "argument" in str(error):
            return Verdict(REFUSED)
        return Verdict("foreign error", told(error))
    except Exception as error:  # that is what is looked for
        return Verdict("foreign error", told(error))
    return Verdict("wrong number", wrong) if wrong else Verdict(ANSWER)


def told(error: BaseException) -> str:
    """Return type, place and start of an error."""
    frame, place = error.__traceback__, ""
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if "/pruninfersim/" in name and "doors.py" not in name:
            place = f"{name.rpartition('/pruninfersim/')[2]}:{frame.tb_lineno}"
        frame = frame.tb_next
    try:
        text = str(error)
    except Exception:
        text = "?"
    return f"{type(error).__name__} at {place}: {text[:120]!r}"


def of_message(text: str) -> Verdict:
    """Return what a refusal is worth: one line, not too long."""
    if len(text) > LONGEST + len("pruninfersim: "):
        return Verdict("long message", f"{len(text)} characters: {text[:80]!r}")
    if "\n" in text.strip() or not text.strip():
        return Verdict("not one line", repr(text[:120]))
    if not text.isprintable():
        return Verdict("unprintable message", repr(text[:120]))
    return Verdict(REFUSED)


def wrong_number(result: Any) -> str:
    """Return which number of an answer is none, or below zero where nothing can be."""
    if isinstance(result, pis.Speedup):
        sides = {name: getattr(result, name) for name in ("flops", "ideal", "estimated", "bound")}
        sides |= {"low": result.interval[0], "high": result.interval[1]}
        return next((w for name, value in sides.items() if (w := _wrong(value, name, above_zero=True))), "")
    if isinstance(result, pis.Estimate):
        return _wrong(result.latency, "latency", above_zero=True)
    if isinstance(result, pd.DataFrame):
        return next((w for name in result if (w := _wrong(result[name].to_numpy(), str(name)))), "")
    if isinstance(result, dict):
        return next((w for key, value in result.items() if (w := wrong_number(value) or _wrong(value, str(key)))), "")
    if isinstance(result, list | tuple):
        return next((w for value in result if (w := wrong_number(value) or _wrong(value, "entry"))), "")
    return _wrong(result, "result")


def _wrong(value: Any, name: str, *, above_zero: bool = False) -> str:
    if isinstance(value, float) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"):
        numbers = np.asarray(value)
        if np.isnan(numbers).any():
            return f"{name} is NaN"
        if above_zero and (not np.isfinite(numbers).all() or (numbers <= 0).any()):
            return f"{name} is {float(numbers.min()):g} to {float(numbers.max()):g}"
    return "" if not isinstance(value, complex) or not math.isnan(abs(value)) else f"{name} is NaN"

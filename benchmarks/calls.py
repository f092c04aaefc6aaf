"""One call, and the import."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import questions
from benchmarks.child import ROOT
from benchmarks.table import Line, Part, duration, timed

BASIS = "numpy, pydantic"


def one_call() -> Part:
    """One question, asked again and again."""
    questions.one_call()
    seconds = timed(questions.one_call, 50)
    meaning = (
        "**one pis.speedup call**: names in, `Speedup` out, stack `vendor`, decode of Llama-3.1-8B under static width; "
        "best of 50."
    )
    return Part((Line("one pis.speedup call, warm", "1", duration(seconds), "", "< 3 ms", seconds < 3e-3),), meaning)


def importing(repeats: int = 5) -> Part:
    """The import, beside that of its two heaviest dependencies."""
    pairs = [(_import_seconds("pruninfersim"), _import_seconds(BASIS)) for _ in range(repeats)]
    ours, basis = (min(times) for times in zip(*pairs, strict=True))
    result = f"{ours / basis:.2f} times `import {BASIS}`"
    line = Line("import pruninfersim", "", result, "", "< 3 times", ours < 3 * basis)
    return Part((line,), f"**import**: processor time in a new interpreter, best of {repeats}.")


def _import_seconds(modules: str) -> float:
    """Return the processor time of an import in a new interpreter [s]."""
    code = f"import time; t = time.process_time(); import {modules}; print(time.process_time() - t)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)

"""One call, and the import."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile

from benchmarks import questions
from benchmarks.child import ROOT
from benchmarks.table import Line, Part, duration, timed

BASIS = "numpy, pydantic"
REPEATS = 5
#: Prints the processor time of a first call [s].
FIRST = (
    "import time, pruninfersim as pis; t = time.process_time(); pis.speedup(model='llama-3.1-8b', hardware='h100-sxm', "
    "method='static-width', sparsity=0.5, phase='decode'); print(time.process_time() - t)"
)


def one_call() -> Part:
    """One question, asked again and again."""
    questions.one_call()
    seconds = timed(questions.one_call, 50)
    meaning = (
        "**one pis.speedup call**: names in, `Speedup` out, stack `vendor`, decode of Llama-3.1-8B under static width; "
        f"best of 50. The first one in a new interpreter, and the command: processor time, best of {REPEATS}, with "
        "bytecode, as pip leaves it."
    )
    first = min(_seconds(FIRST) for _ in range(REPEATS))
    shell = min(_shell_seconds() for _ in range(REPEATS))
    lines = (
        Line("one pis.speedup call, warm", "1", duration(seconds), "", "<= 0.8 ms", seconds <= 0.8e-3),
        Line("- the first one after the import", "1", duration(first), "", "<= 0.5 s", first <= 0.5),
        Line("`pruninfersim speedup` from the shell", "1", duration(shell), "", "<= 0.6 s", shell <= 0.6),
    )
    return Part(lines, meaning)


def importing(repeats: int = REPEATS) -> Part:
    """The import, beside that of its two heaviest dependencies."""
    pairs = [(_import_seconds("pruninfersim"), _import_seconds(BASIS)) for _ in range(repeats)]
    ours, basis = (min(times) for times in zip(*pairs, strict=True))
    result = f"{ours / basis:.2f} times `import {BASIS}`"
    line = Line("import pruninfersim", "", result, "", "< 3 times", ours < 3 * basis)
    return Part((line,), f"**import**: processor time in a new interpreter, best of {repeats}.")


def _import_seconds(modules: str) -> float:
    """Return the processor time of an import in a new interpreter [s]."""
    return _seconds(f"import time; t = time.process_time(); import {modules}; print(time.process_time() - t)")


def _seconds(code: str) -> float:
    """Return what a piece of code prints in a new interpreter, a time [s]."""
    command = [sys.executable, "-c", code]
    return float(
        subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True).stdout
    )


def _shell_seconds() -> float:
    """Return the processor time of the command line program, its start among it [s]."""
    ask = ["speedup", "--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--method", "static-width", "--sparsity", "0.5"]
    before = os.times()
    command = [sys.executable, "-m", "pruninfersim", *ask]
    subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@functools.cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    """Return where interpreters keep bytecode: pip compiles what it installs, a checkout may not be."""
    return tempfile.TemporaryDirectory(prefix="bytecode-")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": _bytecode().name}

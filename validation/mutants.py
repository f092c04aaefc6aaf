"""Which faults the tests would miss: one small change to the package at a time, and whether a test fails.

Usage: python validation/mutants.py [--sample 40] [--seed 0] [PART ...]

PART is a file or folder of the package, for instance ``pruning`` or ``cost/clock.py``; default are `PARTS`. A
seeded sample of each part's mutants is applied in a temporary copy, one after the other, and the tests of `TESTS` that
belong to the file run until the first one fails. The kept predictions take no part: they say that something moved, and
not that it is wrong. Prints a table, and each survivor as a difference. Needs the extra `test`; reference measurements
are not used. A mutant of a file takes seconds to a minute; only one process runs at a time.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import os
import py_compile
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import pytest
from mutations import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[1]
#: Seconds of CPU after which a mutant counts as caught: it does not end.
CPU_SECONDS = 240
#: Bytes of memory that a mutant may take.
MEMORY = 6 * 2**30
PARTS = ("trace", "pruning", "cost", "stacks", "models/architectures", "questions/comparison.py")
ORACLE = ("oracle/test_against_oracle.py", "oracle/test_more_against_oracle.py")
#: Tests of each file or folder, the longest name that fits counts; those first that know it best. The examples of the
#: mutated module come before.
TESTS: dict[str, tuple[str, ...]] = {
    "trace/": (
        "test_trace.py", "test_fused_traces.py", "test_distinct.py", "test_cost.py", "test_pruning_ratios.py",
        "test_comparison.py", "test_pruning_families.py", "test_copies.py", ORACLE[0], "test_representation.py",
    ),
    "pruning/": (
        "test_pruning_families.py", "test_pruning_ratios.py", "test_refusals.py", "test_fused_traces.py",
        "test_attention_pruned.py", "test_quantised_models.py", "test_expert_pruning.py", *ORACLE,
        "test_more_conformance.py", "test_conformance.py::test_built_in_methods_pass",
    ),
    "pruning/aliases.py": ("test_names.py", "test_errors.py", "test_first_tries.py", "test_cli.py"),
    "pruning/registry.py": (
        "test_names.py", "test_errors.py", "test_refusals.py", "test_methods_everywhere.py", "test_first_tries.py",
        "test_one_file.py",
    ),
    "pruning/tables.py": ("test_bridges.py", "test_first_tries.py", "test_models_read.py"),
    "cost/": (
        "test_cost.py", "test_notes_of_sides.py", "test_mask_draws.py", "test_evidence.py", "test_comparison.py",
        "test_engines.py",
    ),
    "cost/clock.py": ("test_cost.py", "test_engines.py", "test_copies.py", "test_comparison.py"),
    "cost/distinct.py": ("test_distinct.py", "test_cost.py", "test_sweep.py"),
    "cost/memory.py": (
        "test_cost.py", "test_inverse.py", "test_evidence.py", "test_expert_pruning.py", "test_more_methods.py",
    ),
    "cost/serving.py": ("test_request.py", "test_inverse.py", "test_engines.py"),
    "cost/sharding.py": ("test_parallel.py", "test_layer_kernels.py"),
    "cost/speedups.py": ("test_comparison.py", "test_pruning_ratios.py", "test_fused_traces.py", "test_explain.py"),
    "cost/uncertainty.py": ("test_uncertainty.py", "test_comparison.py", "test_evidence.py", "test_representation.py"),
    "stacks/": ("test_evidence.py", "test_latency.py", "test_kernel_alignment.py", "test_names.py", "test_one_file.py"),
    "stacks/copies.py": ("test_kernel_token_gemm.py", "test_fused_dynamic.py"),
    "stacks/engines/": (
        "test_engines.py", "test_facts_of_stacks.py", "test_request.py", "test_inverse.py", "test_evidence.py",
        "test_names.py",
    ),
    "stacks/fused_dynamic.py": ("test_fused_dynamic.py", "test_evidence.py"),
    "stacks/paper/": (
        "test_paper_kernels.py", "test_facts_of_stacks.py", "test_kernel_alignment.py", "test_kernel_token_gemm.py",
        "test_reproduce.py",
    ),
    "stacks/parallel.py": ("test_parallel.py", "test_layer_kernels.py"),
    "stacks/quantisation.py": ("test_quantised_gemm.py", "test_quantised_models.py"),
    "stacks/systolic.py": ("test_systolic.py", "test_facts_of_stacks.py", "test_evidence.py"),
    "models/architectures/": (
        "test_trace.py", "test_windows.py", "test_models.py", "test_models_read.py", "test_expert_pruning.py",
        "test_layer_kernels.py", "test_parallel.py", "test_facts_of_stacks.py", "test_mistakes.py", *ORACLE,
    ),
    "questions/": (
        "test_mask_draws.py", "test_notes_of_sides.py", "test_uncertainty.py", "test_comparison.py",
        "test_expert_pruning.py", "test_copies.py", "test_engines.py", "test_first_tries.py",
    ),
}  # fmt: skip
#: Hypothesis need not shrink what only has to fail.
PLUGIN = """
from hypothesis import Phase, settings

settings.register_profile(
    "until-it-fails", deadline=None, derandomize=True, database=None, max_examples=20,
    phases=(Phase.explicit, Phase.generate),
)
"""
#: What takes long to load, and is the same for every mutant.
LOADED = (
    "hypothesis", "pandas", "plotly.graph_objects", "pydantic", "pyarrow.parquet", "scipy.optimize", "scipy.special",
    "typer", "_pytest.assertion.rewrite",
)  # fmt: skip
OPTIONS = (
    "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-p", "until_it_fails", "-m", "not slow",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
    # A process that is spawned loads this script again.
    "--deselect", "tests/test_copies.py::test_questions_go_to_another_process_and_answers_come_back",
)  # fmt: skip


class Bench:
    """A copy of the package and its tests, in which one file at a time is changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, bool] = {}
        for name in ("pruninfersim", "hardware_profiles", "tests", "docs", "validation"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "until_it_fails.py").write_text(PLUGIN, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)

    def fails(self, tests: list[str]) -> str | None:
        """Run tests until the first fails; return its name, or None if all pass."""
        output = self.folder / "output.txt"
        child = os.fork()
        if not child:
            try:
                os._exit(self._run(tests, output))
            finally:  # whatever happens, this process ends here
                traceback.print_exc()
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            return None
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        failed = [
            line.partition(" ")[2].partition(" - ")[0] for line in lines if line.startswith(("FAILED ", "ERROR "))
        ]
        return failed[0] if failed else ("no end" if code < 0 else f"exit {code}")

    def _run(self, tests: list[str], output: Path) -> int:
        """Run tests in a process that has all packages loaded but this one; what they print goes into a file."""
        for limit, most in ((resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_AS, MEMORY)):
            resource.setrlimit(limit, (most, most))
        screen = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(screen, 1)
        os.dup2(screen, 2)
        os.chdir(self.folder)
        sys.path[0] = os.environ["PYTHONPATH"] = str(self.folder)
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for name in ("PRUNINFERSIM_VALIDATION_DATA", "PYTEST_ADDOPTS"):
            os.environ.pop(name, None)
        code = pytest.main([*OPTIONS, "--hypothesis-profile", "until-it-fails", *tests])
        sys.stdout.flush()
        sys.stderr.flush()
        return int(code)

    def passes(self, test: str) -> bool:
        """Whether a test passes without any change: one that does not catches nothing."""
        if test not in self.known:
            self.known[test] = "::" not in test or self.fails([test]) is None
        return self.known[test]

    def kills(self, mutant: Mutant, tests: list[str]) -> str | None:
        """Return the first test that fails with a mutant in place, if any."""
        path = self.folder / "pruninfersim" / mutant.file
        original = path.read_text(encoding="utf-8")
        compiled = Path(importlib.util.cache_from_source(str(path)))
        compiled.unlink(missing_ok=True)
        path.write_text(mutant.applied(original), encoding="utf-8")
        try:
            return self.fails(tests)
        finally:
            path.write_text(original, encoding="utf-8")
            py_compile.compile(str(path))


def tests_of(file: str) -> list[str]:
    """Return the tests that run for a file of the package: its own examples first."""
    part = max((part for part in TESTS if file.startswith(part)), key=len)
    module = ".".join(("pruninfersim", *Path(file).with_suffix("").parts)).removesuffix(".__init__")
    return [f"tests/test_docs_examples.py::test_docstrings[{module}]", *(f"tests/{name}" for name in TESTS[part])]


def sampled(part: str, size: int, seed: int) -> list[Mutant]:
    """Return a seeded sample of the mutants of a file or folder of the package."""
    top = ROOT / "pruninfersim"
    files = [top / part] if part.endswith(".py") else sorted((top / part).rglob("*.py"))
    every = [m for path in files for m in mutants_of(path.relative_to(top).as_posix(), path.read_text("utf-8"))]
    return every if len(every) <= size else random.Random(f"{seed} {part}").sample(every, size)


def difference(mutant: Mutant) -> str:
    """Return a mutant as the lines that it changes."""
    before = (ROOT / "pruninfersim" / mutant.file).read_text(encoding="utf-8")
    both = before.splitlines(), mutant.applied(before).splitlines()
    lines = difflib.unified_diff(*both, mutant.file, f"{mutant.file} ({mutant.kind})", n=1, lineterm="")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {' '.join(PARTS)}")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each part at most")
    parser.add_argument("--seed", default="0")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LOADED:
        importlib.import_module(name)
    caught: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        if wrong := bench.fails(["tests/test_workload.py"]):
            sys.exit(f"{wrong} fails without any change: nothing can be told")
        for part in options.parts or PARTS:
            chosen = sampled(part, options.sample, options.seed)
            for mutant in chosen:
                by = bench.kills(mutant, tests_of(mutant.file))
                if by and not bench.passes(by):
                    print(f"{by} fails without any change: nothing can be told", file=sys.stderr)
                    return 2
                caught.setdefault(part, Counter())["survived" if by is None else "caught"] += 1
                print(f"{mutant}: {by}" if by else f"\n{difference(mutant)}\n", flush=True)
    print(f"\n{'part':28}{'mutants':>8}{'caught':>8}{'survived':>9}")
    for part, counts in (*caught.items(), ("all", sum(caught.values(), Counter()))):
        print(f"{part:28}{counts.total():>8}{counts['caught']:>8}{counts['survived']:>9}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

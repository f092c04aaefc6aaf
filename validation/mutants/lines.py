"""Which tests run a line of the package, and how long they take: one run of the tests under `coverage`."""

from __future__ import annotations

import functools
import gc
import json
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from validation.mutants.changes import Mutant

ROOT = Path(__file__).resolve().parents[2]
TOP = ROOT / "pruninfersim"
#: Files of tests that take no part. Kept predictions and printed pages say that something moved, and not that it is
#: wrong; others read the code as text, look at a screen, run processes of their own, or are of rooms without mutants.
LEFT_OUT = tuple(
    f"tests/{name}" + ("" if name == "browser" else ".py")
    for name in (
        "browser", "test_attention_grid", "test_benchmarks", "test_calibration", "test_cli", "test_cli_screen",
        "test_docs_coverage", "test_explorer", "test_faults", "test_fuzz", "test_grid_gemm", "test_hardware",
        "test_hardware_comparison", "test_house", "test_kernel_2of4", "test_kernel_attention",
        "test_kernel_elementwise", "test_kernel_gemm", "test_literature", "test_measure_benches", "test_measure_layer",
        "test_measure_plan", "test_measure_records", "test_models_table", "test_package", "test_plots",
        "test_predictions", "test_recommend", "test_report", "test_reproduce", "test_runs", "test_threads",
        "test_timings", "test_timings_files", "test_validation",
    )
)  # fmt: skip
LEFT_OUT_SINGLY = (
    "tests/test_copies.py::test_questions_go_to_another_process_and_answers_come_back",
    "tests/test_docs_examples.py::test_documents",
    "tests/test_models_read.py::test_the_page_of_the_documentation_is_up_to_date",
)
#: Hypothesis need not shrink what only has to fail.
settings.register_profile(
    "until-it-fails",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=20,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
OPTIONS = (
    "-q", "-n", "0", "--assert=plain", "--tb=line", "-p", "no:cacheprovider", "-m", "not slow",
    "--hypothesis-profile", "until-it-fails", *(f"--ignore={path}" for path in LEFT_OUT),
    *(f"--deselect={test}" for test in LEFT_OUT_SINGLY),
)  # fmt: skip


class Recorder:
    """A plugin of pytest: runs each test as if it were the only one, and notes what it runs and how long it takes."""

    def __init__(self) -> None:
        import coverage

        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[f"{TOP}/*"])
        self.seconds: dict[str, float] = {}
        self.failed = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        caches, modules = [], 0
        self.coverage.start()
        for item in session.items:
            if len(sys.modules) != modules:
                caches, modules = caches_of_package(), len(sys.modules)
            for cache in caches:  # what an earlier test asked for is no longer at hand
                cache.cache_clear()
            self.failed = False
            self.coverage.switch_context(item.nodeid)
            start = time.process_time()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            if not self.failed:
                self.seconds[item.nodeid] = round(time.process_time() - start, 4)
        self.coverage.stop()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    def write(self, path: Path) -> None:
        """Write the tests that pass, their seconds, and for each line of the package the numbers of its tests."""
        numbers = {test: number for number, test in enumerate(self.seconds)}
        data = self.coverage.get_data()
        lines = {
            Path(file).relative_to(TOP).as_posix(): {
                line: [numbers[test] for test in tests if test in numbers]
                for line, tests in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        path.write_text(json.dumps({"seconds": self.seconds, "lines": lines}), encoding="utf-8")


#: Rooms whose caches are emptied before a test; fits of calibrations are kept, which take long.
FORGETFUL = (
    "pruninfersim.trace",
    "pruninfersim.pruning",
    "pruninfersim.cost",
    "pruninfersim.stacks",
    "pruninfersim.models",
    "pruninfersim.questions",
    "test",
    "cases",
)


def caches_of_package() -> list[functools._lru_cache_wrapper]:
    """Return the functions of the package and of its tests that remember their results."""
    found = (thing for thing in gc.get_objects() if isinstance(thing, functools._lru_cache_wrapper))
    return [cache for cache in found if (cache.__module__ or "").startswith(FORGETFUL)]


class Lines:
    """Which tests run a change, in the order in which they are tried."""

    def __init__(self, path: Path) -> None:
        known = json.loads(path.read_text(encoding="utf-8"))
        self.seconds: dict[str, float] = known["seconds"]
        tests = list(self.seconds)
        self.tests: dict[str, dict[int, list[str]]] = {
            file: {int(line): [tests[number] for number in numbers] for line, numbers in lines.items()}
            for file, lines in known["lines"].items()
        }
        self.caught: dict[str, Counter[str]] = defaultdict(Counter)
        self.imports = {path.relative_to(TOP).as_posix(): imported_by(path) for path in TOP.rglob("*.py")}

    def of(self, mutant: Mutant, budget: float) -> tuple[list[str], int]:
        """Return the tests to try, which together took no longer than so many seconds, and how many there are.

        A change that runs on import may matter wherever the file is used: tests that run the file come first, and those
        that run a file that imports it second. Otherwise first come those that caught a mutant of the same file, then
        one of each test function, the quickest first, then a second one.
        """
        if mutant.inside:
            lines = self.tests.get(mutant.file, {})
            places = [lines.get(line, []) for line in range(mutant.statement, mutant.line + 1)]
            found = [places[-1] or list({test for place in places for test in place})]
        else:
            users = [file for file, names in self.imports.items() if mutant.file in names]
            found = [self._of_file([mutant.file]), self._of_file(users)]
        order: list[str] = []
        for group in found:
            order += self._ordered(set(group) - set(order), self.caught[mutant.file])
        chosen, total = [], 0.0
        for test in order:
            total += self.seconds[test]
            if total > budget and chosen:
                break
            chosen.append(test)
        return chosen, len(order)

    def one_of_each_file(self) -> list[str]:
        """Return the quickest test of each file of tests."""
        slowest_first = sorted(self.seconds, key=lambda test: -self.seconds[test])
        return list({test.partition("::")[0]: test for test in slowest_first}.values())

    def _of_file(self, files: list[str]) -> list[str]:
        return [test for file in files for tests in self.tests.get(file, {}).values() for test in tests]

    def _ordered(self, tests: set[str], caught: Counter[str]) -> list[str]:
        seen: Counter[str] = Counter()
        rank = {}
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            function = test.partition("[")[0]
            rank[test] = (-caught[test], seen[function], self.seconds[test], test)
            seen[function] += 1
        return sorted(tests, key=rank.__getitem__)


def imported_by(path: Path) -> set[str]:
    """Return the files of the package that a file names in its imports."""
    text = path.read_text(encoding="utf-8")
    names = set()
    for package, items in re.findall(r"^\s*from (pruninfersim[\w.]*) import (\([^)]*\)|.*)$", text, re.M):
        names |= {package, *(f"{package}.{item}" for item in re.findall(r"\w+", items))}
    stems = {name.replace(".", "/").removeprefix("pruninfersim/") for name in names}
    return {f"{stem}{end}" for stem in stems for end in (".py", "/__init__.py")}

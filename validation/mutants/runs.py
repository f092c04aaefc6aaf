"""Run tests with a change in place: in a fork of a process that has collected them, or of one with nothing loaded."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import signal
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

import pytest

from validation.mutants.changes import Mutant
from validation.mutants.lines import OPTIONS, ROOT, TOP, Lines, caches_of_package

#: Bytes of memory that a mutant may take.
MEMORY = 6 * 2**30
#: What is said of a mutant whose code no function in memory has.
NOT_PUT = "not put"


class Result(NamedTuple):
    """What became of a mutant: the test that failed, if one did, and how many ran it, tried or not."""

    mutant: Mutant
    by: str
    tried: int
    tests: int

    @property
    def verdict(self) -> str:
        return "no test" if not self.tests else "caught" if self.by else "survived"


def in_fork(work: Callable[[], str], seconds: float | None = None) -> str:
    """Return what a function returns in a child process, or how the process ended."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            if seconds is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                signal.alarm(int(5 * seconds))
            os.write(write, work().encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:  # whatever happens, this process ends here
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said if code == 0 else "no end" if code < 0 else f"exit {code}"


def silent() -> None:
    """Send what this process and its children print to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


class Watch:
    """A plugin of pytest: notes the first test that fails."""

    failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


class Warm:
    """A plugin of pytest: collects all tests once, then forks for each mutant and changes the function in the child."""

    def __init__(self, jobs: Iterable[Mutant], lines: Lines, budget: float, tell: Callable[[Result], None]) -> None:
        self.jobs, self.lines, self.budget, self.tell = jobs, lines, budget, tell
        self.watch = Watch()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.pluginmanager.register(self.watch)
        items = {item.nodeid: item for item in session.items}
        functions = functions_of_package()
        caches = caches_of_package()
        gc.freeze()
        for mutant in self.jobs:
            tests, every = self.lines.of(mutant, self.budget)
            chosen = [items[test] for test in tests if test in items]

            def work(mutant: Mutant = mutant, chosen: list[pytest.Item] = chosen) -> str:
                if not put(mutant, functions):
                    return NOT_PUT
                for cache in caches:
                    cache.cache_clear()
                for item, following in itertools.zip_longest(chosen, chosen[1:]):
                    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                    if self.watch.failed:
                        return self.watch.failed
                return ""

            by = in_fork(work, 3 * self.budget + 30) if chosen else ""
            self.lines.caught[mutant.file][by] += 1
            self.tell(Result(mutant, by, len(chosen), every))
        return True


def functions_of_package() -> dict[tuple[str, CodeType], list[FunctionType]]:
    """Return the functions of the package that are in memory, by file and code."""
    found = defaultdict(list)
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(str(TOP)):
            found[thing.__code__.co_filename, thing.__code__].append(thing)
    return found


def put(mutant: Mutant, functions: dict[tuple[str, CodeType], list[FunctionType]]) -> bool:
    """Give the functions that a mutant changes their new code; return whether there were any."""
    path = str(TOP / mutant.file)
    source = Path(path).read_text(encoding="utf-8")
    changed = 0
    for old, new in pairs(compile(source, path, "exec"), compile(mutant.applied(source), path, "exec")):
        for function in functions.get((path, old), ()) if old != new else ():
            function.__code__ = new
            changed += 1
    return changed > 0


def pairs(old: CodeType, new: CodeType) -> Iterable[tuple[CodeType, CodeType]]:
    """Yield the code of each function of a file, before and after, and that of functions in it as far as they pair."""
    inner = [[const for const in code.co_consts if isinstance(const, CodeType)] for code in (old, new)]
    if len(inner[0]) == len(inner[1]):
        for pair in zip(*inner, strict=True):
            yield pair
            yield from pairs(*pair)


def fresh(mutant: Mutant | None, tests: list[str]) -> str:
    """Run tests in a process that has not loaded the package, with a change in place; return the first that fails."""
    if mutant:
        path = str(TOP / mutant.file)
        text = mutant.applied(Path(path).read_text(encoding="utf-8"))
        usual = SourceFileLoader.get_code

        def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
            return compile(text, path, "exec") if self.path == path else usual(self, fullname)

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    silent()
    by_file = defaultdict(list)
    for test in tests:
        by_file[test.partition("::")[0]].append(test)
    for some in by_file.values():
        watch = Watch()
        code = pytest.main([*OPTIONS, "-x", *(str(ROOT / test) for test in some)], plugins=[watch])
        if code:
            return watch.failed or f"exit {int(code)}"
    return ""

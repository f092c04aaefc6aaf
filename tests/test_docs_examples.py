"""Every example in a docstring, in the README and in the documentation does what it shows."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import pruninfersim
from pruninfersim import cli

PACKAGE = Path(pruninfersim.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
#: Packages of the optional extras: a module that needs one is skipped where it is not installed.
EXTRAS = {"torch", "triton", "pyarrow", "aiconfigurator_core", "dash"}


def module_names() -> list[str]:
    """All modules of the package but `__main__`, which runs the program when imported."""
    files = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in files if path.stem != "__main__")


def documents() -> list[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in pages)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples that write a file leave nothing behind."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", module_names())
def test_docstrings(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in EXTRAS:
            pytest.skip(f"{name} needs {error.name}, an optional extra")
        raise
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("name", documents())
def test_documents(name):
    assert doctest.testfile(str(ROOT / name), module_relative=False, optionflags=FLAGS, encoding="utf-8").failed == 0


def test_readme_has_an_example():
    examples = doctest.DocTestParser().get_examples((ROOT / "README.md").read_text(encoding="utf-8"))
    assert examples, "README.md shows no example that can be tested (a line that starts with >>>)"


def test_the_readme_shows_what_its_first_command_prints(monkeypatch, capsys):
    """Method by method, to 2 %: what a reader sees on a screen of 120 columns."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"<!-- run-command -->\n```bash\n.*&& (pruninfersim .*)\n", text)[1]
    shown = re.search(r"```text\n(Speedup: .*?)\n\n1/\(1-s\): ", text, re.DOTALL)[1]
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().out.partition("\n\n1/(1-s): ")[0]
    for ours, theirs in zip(shown.splitlines(), printed.splitlines(), strict=True):
        words = [line.split() for line in (ours, theirs)]
        assert [w for w in words[0] if not _is_number(w)] == [w for w in words[1] if not _is_number(w)]
        numbers = [[float(w) for w in line if _is_number(w)] for line in words]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.02)


def _is_number(word: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", word) is not None

"""Shared by all tests: hypothesis profiles and the optional reference measurements."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
VALIDATION_DATA = "PRUNINFERSIM_VALIDATION_DATA"

# On a shared machine the time of one example, or of making it, says nothing, and a red gate must be reproducible.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", untimed, derandomize=True, print_blob=True)
settings.register_profile("local", untimed)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def script(name: str) -> ModuleType:
    """Return a script of `validation/` as a module; the processes that it starts find it by its name."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "validation" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Call the program inside this process: (exit code, standard output, standard error)."""
    from pruninfersim import cli

    def call(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["pruninfersim", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return call


@pytest.fixture(scope="session")
def validation_data() -> Path:
    """Folder of the reference measurements, which are not part of this repository."""
    given = os.environ.get(VALIDATION_DATA)
    if given and Path(given).is_dir():
        return Path(given)
    if given:
        pytest.fail(f"{VALIDATION_DATA} names {given}, which is not a folder")
    pytest.skip(f"needs the reference measurements, which are not shipped; set {VALIDATION_DATA} to their folder")

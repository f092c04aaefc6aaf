"""Shared by all tests: hypothesis profiles and the optional reference measurements."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
VALIDATION_DATA = "PRUNINFERSIM_VALIDATION_DATA"

# On a shared machine the time of one example, or of making it, says nothing, and a red gate must be reproducible.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", untimed, derandomize=True, print_blob=True)
settings.register_profile("local", untimed)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def validation_data() -> Path:
    """Folder of the reference measurements, which are not part of this repository."""
    given = os.environ.get(VALIDATION_DATA)
    if given and Path(given).is_dir():
        return Path(given)
    if given:
        pytest.fail(f"{VALIDATION_DATA} names {given}, which is not a folder")
    pytest.skip(f"needs the reference measurements, which are not shipped; set {VALIDATION_DATA} to their folder")

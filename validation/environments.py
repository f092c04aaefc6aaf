"""Where the package works: versions of Python and of what it depends on, and odd places. One line of result each.

Usage: python validation/environments.py [--python INTERPRETER ...] [--only WORDS ...] [--all-tests]

Builds the wheel, installs it with `uv` into an environment for each interpreter (default: this one), runs the script of
the wheel (`tests/wheel_smoke.py`), compares the kept predictions to 1e-12 (`python -m tests.predictions`), and runs the
tests of files, encodings and processes. Then the same in odd places, in an environment of the first interpreter: a path
with spaces and letters beyond ASCII, the C locale, no network, no git and an empty environment, and as a user who is
not root and can write nothing but the folder for temporary files. Ends with 1 if anything fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Tests that touch what an interpreter, a dependency or a place can break: files, encodings, processes.
TESTS = ("test_package.py", "test_models_read.py", "test_timings_files.py", "test_runs.py")
#: The locale of a bare shell, without what Python does by itself to get out of it.
C_LOCALE = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NOBODY = 65534


class Place:
    """An environment with the wheel, beside a copy of the tests."""

    def __init__(self, folder: Path, interpreter: str, wheel: Path, resolution: str = "highest") -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.python = folder / "environment" / "bin" / "python"
        uv("venv", "--python", interpreter, str(folder / "environment"))
        into = ("pip", "install", "--python", str(self.python))
        uv(*into, "--resolution", resolution, "-r", str(ROOT / "pyproject.toml"), "--extra", "test")
        uv(*into, "--no-deps", str(wheel))
        for name in ("tests", "docs", "validation", "hardware_profiles"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff"):
            shutil.copy(ROOT / name, folder / name)

    def versions(self) -> str:
        """Return the versions that matter, on one line."""
        code = "import sys, numpy, scipy, pandas, pydantic; print(sys.version.split()[0], *("
        code += "f'{m.__name__} {m.__version__}' for m in (numpy, scipy, pandas, pydantic)), sep=', ')"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def works(
        self,
        tests: Sequence[str],
        *,
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> str | None:
        """Run script, predictions and tests; return the first thing that goes wrong, if any."""
        options = ("-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow", "-W", "error")
        commands = {
            "wheel_smoke.py": ("-W", "error", "tests/wheel_smoke.py"),
            "predictions": ("-W", "error", "-m", "tests.predictions"),
            "tests": ("-m", "pytest", *options, *(f"tests/{name}" for name in tests)),
        }
        for name, command in commands.items():
            done = subprocess.run(
                [*before, str(self.python), *command], cwd=self.folder, env=env, user=user, group=user,
                extra_groups=None if user is None else [], capture_output=True, text=True, errors="replace",
            )  # fmt: skip
            if done.returncode:
                lines = (done.stdout + done.stderr).strip().splitlines()
                failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
                more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
                return f"{name}: {(failed or lines[-1:] or [f'exit {done.returncode}'])[0]}{more}"
        return None


def uv(*arguments: str) -> None:
    """Run uv, which makes environments in a second; its failure ends this script."""
    done = subprocess.run(["uv", "--quiet", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"uv {' '.join(arguments)}\n{done.stderr}")


def environment(**more: str) -> dict[str, str]:
    """Return what a program is told by default, and more."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    return {"OMP_NUM_THREADS": "1", "CI": "true", **kept, **more}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], metavar="INTERPRETER")
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="only lines whose name has one of these words")
    parser.add_argument("--all-tests", action="store_true", help="all tests but slow ones for each interpreter")
    options = parser.parse_args()
    if shutil.which("uv") is None:
        sys.exit("needs uv: pip install uv")
    failures = 0

    def line(name: str, wrong: str | None, note: str = "") -> None:
        nonlocal failures
        failures += wrong is not None
        print(f"{name:44} {'ok' if wrong is None else 'FAILED'}  {wrong or note}", flush=True)

    def asked(name: str) -> bool:
        return options.only is None or any(word in name for word in options.only)

    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        top.chmod(0o755)
        uv("build", "--wheel", "--out-dir", str(top / "dist"), str(ROOT))
        wheel = next((top / "dist").glob("*.whl"))
        first = options.python[0]
        found = (path.relative_to(ROOT / "tests").as_posix() for path in sorted((ROOT / "tests").rglob("test_*.py")))
        everything = [name for name in found if not name.startswith("browser/")]
        for i, interpreter in enumerate(options.python):
            name = f"newest dependencies, {Path(interpreter).name}"
            if asked(name):
                place = Place(top / f"newest-{i}", interpreter, wheel)
                tests = everything if options.all_tests else TESTS
                line(name, place.works(tests, env=environment()), place.versions())
        if asked(name := "oldest dependencies"):
            place = Place(top / "oldest", first, wheel, "lowest-direct")
            line(name, place.works(TESTS, env=environment()), place.versions())
        if asked(name := "a path with spaces and letters"):
            place = Place(top / "Größe und Länge – 模型 'ß'", first, wheel)
            line(name, place.works(TESTS, env=environment()))
        here = Place(top / "here", first, wheel)
        if asked(name := "LC_ALL=C, PYTHONUTF8=0, no coercion"):
            line(name, here.works(TESTS, env=environment(**C_LOCALE)))
        if asked(name := "no network"):
            apart = ["unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",))]
            line(name, here.works(TESTS, before=apart, env=environment()))
        if asked(name := "no git, no PATH, no HOME"):
            line(name, here.works(TESTS, env={"PATH": "", "CI": "true", "OMP_NUM_THREADS": "1"}))
        if asked(name := "not root; home and folder are read-only"):
            if os.geteuid() != 0:
                print(f"{name:44} not tried: only root becomes another user")
            else:
                (top / "home").mkdir()  # like all else there, of root
                (top / "scratch").mkdir()
                (top / "scratch").chmod(0o777)
                env = environment(HOME=str(top / "home"), TMPDIR=str(top / "scratch"))
                line(name, here.works(TESTS, env=env, user=NOBODY))
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())

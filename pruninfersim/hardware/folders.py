"""Where profiles are: the folder of the built-in ones, and those of the user."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from pruninfersim.errors import FileFormatError, InvalidInputError

#: Environment variable with directories of profiles of your own, separated like PATH.
SEARCH_PATH_VARIABLE = "PRUNINFERSIM_HARDWARE_PATH"
#: What the name of a profile is made of: nothing that leads to another folder.
PLAIN = re.compile(r"\w[\w .+-]{0,99}")


@cache
def profiles_directory() -> Path:
    """Return the directory of the built-in profiles (and of ``calibrations/`` below it).

    Inside the package in an installed wheel, beside the package in a source tree.

    Raises
    ------
    FileFormatError
        If the installation lacks the profiles.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "hardware_profiles", package.parent / "hardware_profiles"):
        if candidate.is_dir():
            return candidate
    raise FileFormatError(f"no hardware_profiles directory in or beside {package}. Install the package again.")


def file_of(name: str, path: str | Path | None) -> Path | None:
    """Return the file of the profile of that very name, if there is one.

    >>> file_of("l40s", None).name, file_of("../l40s", None)
    ('l40s.toml', None)
    """
    places = [directory / f"{name}.toml" for directory in folders(path) if PLAIN.fullmatch(name)]
    return next((place for place in places if place.is_file()), None)


def files(path: str | Path | None) -> dict[str, Path]:
    """Return the file of each name, with the profiles of the user in front of the built-in ones."""
    found: dict[str, Path] = {}
    for directory in reversed(folders(path)):
        found |= {file.stem: file for file in directory.glob("*.toml")}
    return found


def folders(path: str | Path | None) -> list[Path]:
    """Return the folders that hold profiles, those of the user first.

    Raises
    ------
    InvalidInputError
        If one does not exist.
    """
    wanted = [] if path is None else [(Path(path), "path")]
    listed = os.environ.get(SEARCH_PATH_VARIABLE, "").split(os.pathsep)
    wanted += [(Path(entry), f"the environment variable {SEARCH_PATH_VARIABLE}") for entry in listed if entry]
    for directory, origin in wanted:
        if not os.path.isdir(directory):
            raise InvalidInputError(f"{directory}, given by {origin}, is not a directory with hardware profiles.")
    return [directory for directory, _ in wanted] + [profiles_directory()]

"""Where this package keeps what it can make anew: indexes, exported graphs."""

import os
import sys
from pathlib import Path


def cache_home() -> Path:
    """Folder of all that has no place of its own: `ROM_HOME` if it is set, else in the user's cache folder.

    Raises:
        ValueError: `ROM_HOME` names the home of an unknown user, or is not set and this user has no home.
    """
    if home := os.environ.get("ROM_HOME"):
        try:
            return Path(home).expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(
                f"ROM_HOME '{home}' can't be found: it names the home of a user who isn't known here. Write the path "
                "out in full."
            ) from error
    try:
        return _users_cache() / "rom_haystack"
    except RuntimeError as error:
        raise ValueError("This user has no home folder for a cache. Set ROM_HOME to a folder.") from error


def _users_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"

"""Where this package keeps what it can make anew: indexes, exported graphs."""

import os
import sys
from pathlib import Path


def cache_home() -> Path:
    """Folder of all that has no place of its own: `ROM_HOME` if it is set, else in the user's cache folder.

    Raises:
        ValueError: `ROM_HOME` names the home of an unknown user.
    """
    if home := os.environ.get("ROM_HOME"):
        try:
            return Path(home).expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(
                f"ROM_HOME '{home}' can't be found: it names the home of a user who isn't known here. Write the path "
                "out in full."
            ) from error
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "rom_haystack"

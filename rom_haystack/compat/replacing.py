"""Folders that are written whole, beside the place they take in the end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a new folder to be filled, which takes the place of `target` in the end; after an error all is as it was.

    Whether `target` may go is for the caller to check.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        half.chmod(0o755)  # as other folders: mkdtemp's is its owner's alone
        yield half
        if target.exists():
            shutil.rmtree(target)
        half.replace(target)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise

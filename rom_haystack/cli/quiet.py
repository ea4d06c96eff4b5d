"""Libraries that neither chat nor call home, and what the user should hear of long work."""

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.text import Text

from rom_haystack.cli.app import PACKAGE
from rom_haystack.cli.output import errors, printable

# As in `rom_haystack.inference.loading`, which takes long to import.
_PREPARATION_LOGGER = "rom_haystack.inference.preparation"


def quiet(model: str | None) -> None:
    """Keep the libraries from calling home and from chatting; must run before they are imported.

    Args:
        model: What will be loaded; nothing is fetched where it lies on this machine. None if that is not known yet.
    """
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if model is not None and _is_local(model):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name in ("haystack", "pypdf", "trafilatura", "htmldate"):  # bad files are reported by the library itself
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if "transformers" in sys.modules:  # too late for the environment
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()


@contextmanager
def importing() -> Iterator[None]:
    """Import without collecting garbage: the libraries' objects stay anyway, and looking for it takes half a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def preparation_announced() -> Iterator[None]:
    """Tell the user, once, if a model is being prepared for this machine."""
    logger = logging.getLogger(_PREPARATION_LOGGER)
    handler = _FirstToUser()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _FirstToUser(logging.Handler):
    """Show the first message on stderr."""

    _shown = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._shown:
            self._shown = True
            errors().print(Text(printable(record.getMessage())), soft_wrap=True)


def _is_local(model: str) -> bool:
    """Tell whether a model is bundled or a folder, without importing torch as `resolve_checkpoint` does."""
    try:
        return (PACKAGE / "checkpoints" / model).is_dir() or Path(model).expanduser().exists()
    except (OSError, RuntimeError):  # no possible path; `resolve_checkpoint` explains it
        return False

"""The models that the demo holds in memory, and what they run on: torch at once, soon the fastest engine there is."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from demo.core.encoders import spec_of
from demo.core.measuring import Measuring, MeasuringError
from rom_haystack.components import ROMExtractiveReader, ROMTextEmbedder
from rom_haystack.components.extractive_reader import AdaptiveReading
from rom_haystack.inference.selection import known_choice
from rom_haystack.modeling import DEFAULT_CHECKPOINT

logger = logging.getLogger(__name__)

#: Components that stay, the most recently used ones. Those of one model share it.
_KEPT = 8


class Engine:
    """Hold the models in memory, on the engine that `auto` means now; safe to use from several threads.

    On a machine where no one has measured engines yet, that is torch, so that the demo answers at once. After the first
    answer the others are measured, and the fastest faithful one takes over.

    Args:
        model: The checkpoint for which engines are measured.

    Attributes:
        preparing: Whether engines are being measured.
        name: What `model` runs on, such as `openvino-bfloat16`.
    """

    def __init__(self, model: str = DEFAULT_CHECKPOINT) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._parts: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._to_measure = known_choice(spec_of(model)) is None
        self.preparing = False
        self.name = _name_of(model)

    def embedder(self, model: str) -> ROMTextEmbedder:
        """Return what embeds questions with a checkpoint.

        Args:
            model: Bundled name or folder.
        """
        embedder: ROMTextEmbedder = self._part(
            lambda: ROMTextEmbedder(model=model, progress_bar=False), "embedder", model
        )
        return embedder

    def reader(self, model: str, reading: AdaptiveReading) -> ROMExtractiveReader:
        """Return what reads answers with a checkpoint.

        Args:
            model: Bundled name or folder.
            reading: Whether, and how soon, it stops.
        """
        reader: ROMExtractiveReader = self._part(
            lambda: ROMExtractiveReader(model=model, adaptive_reading=reading), "reader", model, reading
        )
        return reader

    def warm_up(self) -> None:
        """Load the model in the background, so that the first question finds it; returns at once."""
        threading.Thread(target=self.embedder(self._model).warm_up, name="model", daemon=True).start()

    def prepare(self) -> None:
        """Have the engines measured in the background where no one has yet; returns at once."""
        with self._lock:
            if not self._to_measure:
                return
            self._to_measure = False
            self.preparing = True
        threading.Thread(target=self._take_over, name="engines", daemon=True).start()

    def _part(self, make: Callable[[], Any], *key: str) -> Any:
        with self._lock:
            part = self._parts.pop(key, None) or make()
            self._parts[key] = part
            if len(self._parts) > _KEPT:  # whoever uses the oldest now keeps it alive
                self._parts.popitem(last=False)
        return part

    def _take_over(self) -> None:
        """Measure, load the best engine, and use it from then on."""
        try:
            if not Measuring(self._model).wait():
                return
            successor = ROMTextEmbedder(model=self._model, progress_bar=False)
            successor.warm_up()
            with self._lock:
                self._parts.clear()
                self._parts["embedder", self._model] = successor
            self.name = _name_of(self._model)
        except (MeasuringError, OSError) as error:
            logger.warning("%s The demo goes on with %s.", error, self.name)
        finally:
            self.preparing = False


def _name_of(model: str) -> str:
    spec = spec_of(model).resolved()
    return f"{spec.backend}-{spec.dtype}"

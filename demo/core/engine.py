"""The models that the demo holds in memory, and what they run on: at once torch, soon the fastest engine there is."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from rom_haystack.components import ROMExtractiveReader, ROMTextEmbedder
from rom_haystack.components.extractive_reader import AdaptiveReading
from rom_haystack.inference.registry import EncoderSpec
from rom_haystack.inference.selection import known_choice
from rom_haystack.modeling import DEFAULT_CHECKPOINT

from .measuring import measure

#: Components that stay loaded, the most recently used ones; those of one model share it.
_KEPT = 8

Part = TypeVar("Part", ROMTextEmbedder, ROMExtractiveReader)


class Engine:
    """Hold the models in memory, on the engine that `auto` means now; safe to use from several threads.

    On a machine where no one has measured engines yet, that is torch at first, so that the demo answers at once. The
    others are measured by a process of low priority meanwhile, and the fastest faithful one takes over.

    Args:
        model: The checkpoint for which engines are measured.

    Attributes:
        preparing: Whether engines are being measured.
        name: What `model` runs on, such as `openvino-bfloat16`.
    """

    def __init__(self, model: str = DEFAULT_CHECKPOINT) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._parts: OrderedDict[tuple[str, ...], ROMTextEmbedder | ROMExtractiveReader] = OrderedDict()
        self.preparing = known_choice(EncoderSpec(model)) is None
        self.name = _name_of(model)
        if self.preparing:
            threading.Thread(target=self._prepare, name="Measuring engines", daemon=True).start()

    def embedder(self, model: str) -> ROMTextEmbedder:
        """Return what embeds questions with a checkpoint.

        Args:
            model: Bundled name or folder.
        """
        return self._part(("embedder", model), lambda: ROMTextEmbedder(model=model, progress_bar=False))

    def reader(self, model: str, reading: AdaptiveReading) -> ROMExtractiveReader:
        """Return what reads answers with a checkpoint.

        Args:
            model: Bundled name or folder.
            reading: Whether, and how soon, it stops.
        """
        return self._part(
            ("reader", model, reading), lambda: ROMExtractiveReader(model=model, adaptive_reading=reading)
        )

    def _part(self, key: tuple[str, ...], make: Callable[[], Part]) -> Part:
        with self._lock:
            part = self._parts.get(key) or make()
            self._parts[key] = part
            self._parts.move_to_end(key)
            while len(self._parts) > _KEPT:  # whoever uses it now keeps it alive until done
                self._parts.popitem(last=False)
        return part  # type: ignore[return-value]

    def _prepare(self) -> None:
        """Measure, load the best, and let it take over."""
        try:
            measure(self._model)
            successor = ROMTextEmbedder(model=self._model, progress_bar=False)
            successor.warm_up()
            with self._lock:
                self._parts.clear()
                self._parts["embedder", self._model] = successor
                self.name = _name_of(self._model)
        finally:
            self.preparing = False


def _name_of(model: str) -> str:
    spec = EncoderSpec(model).resolved()
    return f"{spec.backend}-{spec.dtype}"

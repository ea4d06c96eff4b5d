"""One model in memory, however many components use it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rom_haystack.modeling import DEFAULT_CHECKPOINT, bundled_checkpoints
from rom_haystack.modeling.conversion.sources import split_part

if TYPE_CHECKING:
    from rom_haystack.inference.encoder import ROMEncoder

#: Engines, and the types in which each computes.
DTYPES: dict[str, tuple[str, ...]] = {
    "torch": ("float32", "bfloat16", "float16"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "float16", "int8"),
}
#: Stands for the fastest faithful engine of the machine.
AUTO = "auto"


@dataclass(frozen=True)
class EncoderSpec:
    """What makes two loaded encoders the same.

    Args:
        model: Bundled name, folder or hub id of a checkpoint, or the folder of an exported one.
        revision: Branch, tag or commit of a hub id.
        device: A torch device; engines other than torch take `cpu` only.
        dtype: Type of the arithmetic: `float32`, `bfloat16`, `float16` (torch, openvino) or `int8` (onnx, openvino).
            None leaves it to the engine.
        backend: Engine: `torch`, `onnx` or `openvino`; `auto` picks the fastest faithful one of this machine.
        options: Further loading options, as JSON (see `EncoderSpec.create`); torch takes them, no other engine does.
        token: Access token for a private hub id; two specs that differ in nothing else are the same.
        local_files_only: Never ask the hub; no part of what makes two encoders the same either.

    Raises:
        ValueError: Unknown backend or dtype, or values that don't go together; the message names what does.
    """

    model: str = DEFAULT_CHECKPOINT
    revision: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    backend: str = AUTO
    options: str = "{}"
    token: str | None = field(default=None, compare=False, repr=False)
    local_files_only: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.backend not in (AUTO, *DTYPES):
            raise ValueError(f"Unknown backend '{self.backend}'; choose {', '.join([AUTO, *DTYPES])}.")
        possible = DTYPES.get(self.backend) or tuple(dict.fromkeys(name for names in DTYPES.values() for name in names))
        if self.dtype is not None and self.dtype not in possible:
            raise ValueError(
                f"Unknown dtype '{self.dtype}' for backend '{self.backend}'; choose {', '.join(possible)}."
            )
        if self.backend in (AUTO, "torch"):
            return
        if self.device != "cpu":
            raise ValueError(
                f"Backend '{self.backend}' runs on the CPU, not on '{self.device}'. Set the device to cpu, or choose "
                "backend 'torch'."
            )
        if self.options != "{}":
            raise ValueError(
                f"Backend '{self.backend}' has no use for these loading options: {self.options}. Leave them out, or "
                "choose backend 'torch'."
            )

    @classmethod
    def create(
        cls,
        model: str | Path,
        *,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        **fields: Any,
    ) -> EncoderSpec:
        """Build a spec from what components are given; `model_kwargs` may name the `dtype` (or `torch_dtype`)."""
        model_options = dict(model_kwargs or {})
        dtypes = [model_options.pop(name, None) for name in ("dtype", "torch_dtype")]
        dtype = next((dtype for dtype in dtypes if dtype is not None), None)
        options = {"model": model_options, "tokenizer": tokenizer_kwargs}
        return cls(
            model=_one_name(str(model)),
            dtype=None if dtype is None else str(dtype).removeprefix("torch."),
            options=json.dumps({name: value for name, value in options.items() if value}, sort_keys=True),
            **fields,
        )

    @property
    def is_concrete(self) -> bool:
        """Whether the spec names both engine and type."""
        return self.backend != AUTO and self.dtype is not None

    def resolved(self) -> EncoderSpec:
        """Put the engine for `auto` and the type for None; where auto was never chosen here, this takes a while.

        Raises:
            CheckpointError: The checkpoint can't be found.
            ImportError: The engine is not installed.
        """
        if self.is_concrete:
            return self
        from rom_haystack.inference.selection import chosen  # noqa: PLC0415 (it stands on this module)

        backend, dtype = chosen(self)
        return replace(self, backend=backend, dtype=dtype)

    def load(self) -> ROMEncoder:
        """Load the encoder anew, outside the registry.

        Raises:
            CheckpointError: The checkpoint can't be found, is damaged, or can't be exported for the engine.
            ImportError: The engine is not installed.
        """
        from rom_haystack.inference.loading import load_encoder  # noqa: PLC0415 (it stands on this module)

        return load_encoder(self.resolved())


def _one_name(model: str) -> str:
    """Name what is local by its whole path, however it was written; leave other names, and impossible ones, alone."""
    if model in bundled_checkpoints():
        return model
    name, part = split_part(model)
    try:
        place = Path(name).expanduser()
        return str(place.resolve()) + (f":{part}" if part else "") if place.exists() else model
    except (OSError, RuntimeError):  # loading it says what is wrong
        return model


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    encoder: ROMEncoder | None = None
    users: int = 0


class EncoderRegistry:
    """Share loaded encoders by spec and free each when its last user leaves; safe from several threads.

    Specs are resolved first, so users who leave the engine to the machine share with those who name the same one.
    """

    def __init__(self) -> None:
        # Finalizers release: the garbage collector may start one in a thread that holds the lock already.
        self._lock = threading.RLock()
        self._entries: dict[EncoderSpec, _Entry] = {}

    def acquire(self, spec: EncoderSpec) -> ROMEncoder:
        """Return the spec's encoder, loading it if no one has; each call needs one `release`.

        Two specs load side by side; two users of one spec wait for one loading.
        """
        spec = spec.resolved()
        with self._lock:
            entry = self._entries.get(spec) or _Entry()
            entry.users += 1
            self._entries[spec] = entry  # even if a finalizer has just dropped it
        try:
            with entry.lock:
                if entry.encoder is None:
                    entry.encoder = spec.load()
                return entry.encoder
        except BaseException:
            self.release(spec)
            raise

    def release(self, spec: EncoderSpec) -> None:
        """Give back one `acquire`; the last one frees the encoder. Unknown specs are ignored."""
        spec = spec.resolved()
        with self._lock:
            entry = self._entries.get(spec)
            if entry is None:
                return
            entry.users -= 1
            if entry.users <= 0:
                del self._entries[spec]

    def users(self, spec: EncoderSpec) -> int:
        """Return how many users hold the spec's encoder."""
        spec = spec.resolved()
        with self._lock:
            entry = self._entries.get(spec)
            return entry.users if entry else 0


#: The registry that all components share.
REGISTRY = EncoderRegistry()

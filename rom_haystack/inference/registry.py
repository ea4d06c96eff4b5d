"""One model in memory, however many components use it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rom_haystack.inference.encoder import ROMEncoder
from rom_haystack.modeling import DEFAULT_CHECKPOINT, bundled_checkpoints, load_checkpoint


@dataclass(frozen=True)
class EncoderSpec:
    """What makes two loaded encoders the same.

    Args:
        model: Bundled name, folder or hub id.
        revision: Branch, tag or commit of a hub id.
        device: A torch device.
        dtype: Name of the weights' type in memory (`float32`, `bfloat16`, `float16`).
        backend: Inference engine; `torch` is the one there is.
        options: Further loading options, as JSON (see `EncoderSpec.create`).
        token: Access token for a private hub id; two specs that differ in nothing else are the same.
        local_files_only: Never ask the hub; no part of what makes two encoders the same either.

    Raises:
        ValueError: Unknown dtype or backend.
    """

    model: str = DEFAULT_CHECKPOINT
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    backend: str = "torch"
    options: str = "{}"
    token: str | None = field(default=None, compare=False, repr=False)
    local_files_only: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"Unknown dtype '{self.dtype}'; choose float32, bfloat16 or float16.")
        if self.backend != "torch":
            raise ValueError(f"Unknown backend '{self.backend}'; choose 'torch'.")

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
        dtype = model_options.pop("dtype", None) or model_options.pop("torch_dtype", None) or "float32"
        options = {"model": model_options, "tokenizer": tokenizer_kwargs}
        return cls(
            model=_one_name(str(model)),
            dtype=str(dtype).removeprefix("torch."),
            options=json.dumps({name: value for name, value in options.items() if value}, sort_keys=True),
            **fields,
        )

    def load(self) -> ROMEncoder:
        """Load the encoder anew, outside the registry.

        Raises:
            CheckpointError: See `load_checkpoint`.
        """
        options = json.loads(self.options)
        model, tokenizer = load_checkpoint(
            self.model,
            revision=self.revision,
            token=self.token,
            local_files_only=self.local_files_only,
            dtype=getattr(torch, self.dtype),
            device=self.device,
            model_kwargs=options.get("model"),
            tokenizer_kwargs=options.get("tokenizer"),
        )
        return ROMEncoder(model, tokenizer)


def _one_name(model: str) -> str:
    """Name a local folder by its whole path, however it was written; leave other names, and impossible ones, alone."""
    if model in bundled_checkpoints():
        return model
    try:
        folder = Path(model).expanduser()
        return str(folder.resolve()) if folder.is_dir() else model
    except (OSError, RuntimeError):  # loading it says what is wrong
        return model


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    encoder: ROMEncoder | None = None
    users: int = 0


class EncoderRegistry:
    """Share loaded encoders by spec and free each when its last user leaves; safe from several threads."""

    def __init__(self) -> None:
        # Finalizers release: the garbage collector may start one in a thread that holds the lock already.
        self._lock = threading.RLock()
        self._entries: dict[EncoderSpec, _Entry] = {}

    def acquire(self, spec: EncoderSpec) -> ROMEncoder:
        """Return the spec's encoder, loading it if no one has; each call needs one `release`.

        Two specs load side by side; two users of one spec wait for one loading.
        """
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
        with self._lock:
            entry = self._entries.get(spec)
            if entry is None:
                return
            entry.users -= 1
            if entry.users <= 0:
                del self._entries[spec]

    def users(self, spec: EncoderSpec) -> int:
        """Return how many users hold the spec's encoder."""
        with self._lock:
            entry = self._entries.get(spec)
            return entry.users if entry else 0


#: The registry that all components share.
REGISTRY = EncoderRegistry()

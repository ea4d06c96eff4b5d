"""What every component with a model shares: its place at the shared encoder."""

import inspect
import threading
import weakref
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Self

from haystack import default_from_dict, default_to_dict, logging
from haystack.utils import ComponentDevice, Secret

from rom_haystack.inference import REGISTRY, EncoderSpec, ROMEncoder
from rom_haystack.modeling.conversion.sources import split_part
from rom_haystack.modeling.places import is_local

logger = logging.getLogger(__name__)

#: Default of every `token`, as in the stock components.
HUB_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)

#: Inference engines. `auto` is the fastest faithful one of the machine.
BackendName = Literal["auto", "torch", "onnx", "openvino"]
_CPU_ONLY = ("onnx", "openvino")

#: Values of transformers' `device_map` that leave the choice to the machine.
_AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")


class EncoderUser:
    """Hold the arguments that name an encoder, and one share of it between `warm_up` and `close`.

    Components with the same (model, revision, device, dtype, backend) share one encoder in memory. A component that is
    dropped without `close` gives its share back when it is garbage-collected.

    Args:
        model: Bundled name, folder or hub id of a ROM checkpoint, or of a model of another kind that becomes one, once
            (DPR, sentence-transformers, question answering); `biencoder.cp:question` names an encoder in a file of the
            original DPR.
        device: Where the model runs; None picks the machine's default when the model is loaded.
        token: Access token for a private hub id, read at `warm_up` and for a hub id only.
        revision: Branch, tag or commit of a hub id.
        local_files_only: Never ask the hub.
        model_kwargs: Options for loading the model, such as `{"dtype": "bfloat16"}`. A `device_map` that names one
            device takes the place of `device`, as in the stock reader.
        tokenizer_kwargs: Options for loading the tokenizer.
        backend: Inference engine: `torch`, `onnx` or `openvino`; `auto` picks the fastest faithful one when the model
            is loaded.

    Raises:
        ValueError: Unknown backend or dtype, a combination of them that there is not, or an option that would run code
            or read pickles from a checkpoint.
    """

    _lock: threading.Lock
    _share: "weakref.finalize[[EncoderSpec], EncoderUser] | None"
    _encoder: ROMEncoder | None

    def __init__(
        self,
        *,
        model: str | Path,
        device: ComponentDevice | None,
        token: Secret | None,
        revision: str | None,
        local_files_only: bool,
        model_kwargs: dict[str, Any] | None,
        tokenizer_kwargs: dict[str, Any] | None,
        backend: BackendName,
    ) -> None:
        self.model = str(model)
        self.device = device
        self.token = token
        self.revision = revision
        self.local_files_only = local_files_only
        self.model_kwargs = model_kwargs
        self.tokenizer_kwargs = tokenizer_kwargs
        self.backend = backend
        for options in (model_kwargs, tokenizer_kwargs):
            refuse_remote_code((options or {}).get("trust_remote_code"))
        if (model_kwargs or {}).get("use_safetensors", True) is False:
            raise ValueError("use_safetensors=False is refused: weights are read from safetensors only, never pickles.")
        # What can't be fails here, not at the first question; but the machine is not looked at yet.
        self._spec(device=self._torch_device() if backend in _CPU_ONLY else "cpu")
        self._start_cold()

    def warm_up(self) -> None:
        """Load the encoder, or take a share of one already in memory; does nothing the second time.

        Raises:
            CheckpointError: The checkpoint can't be found or loaded.
            ValueError: A hub id's token is a strict secret that is not set.
        """
        self._warm_encoder()

    def close(self) -> None:
        """Give the share back; the last user frees the encoder. A later `warm_up` or `run` takes a new one."""
        with self._lock:
            share = self._share
            self._share = self._encoder = None
        if share is not None:
            share()

    def to_dict(self) -> dict[str, Any]:
        """Serialize to a dictionary, with the requested device rather than the one it was resolved to."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        parameters = {name: deepcopy(getattr(self, name)) for name in names}
        if parameters["model_kwargs"]:
            from haystack.utils.hf import serialize_hf_model_kwargs  # noqa: PLC0415 (it imports transformers)

            serialize_hf_model_kwargs(parameters["model_kwargs"])
        return default_to_dict(self, **parameters)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component from the dictionary that `to_dict` made; `data` stays as it is."""
        data = deepcopy(data)
        if model_kwargs := data.get("init_parameters", {}).get("model_kwargs"):
            from haystack.utils.hf import deserialize_hf_model_kwargs  # noqa: PLC0415 (it imports transformers)

            deserialize_hf_model_kwargs(model_kwargs)
        return default_from_dict(cls, data)

    def _warm_encoder(self) -> ROMEncoder:
        with self._lock:
            if self._encoder is None:
                spec = self._spec(device=self._torch_device(), token=self._hub_token()).resolved()
                self._encoder = REGISTRY.acquire(spec)
                self._share = weakref.finalize(self, REGISTRY.release, spec)  # runs once: at close, or with our end
            return self._encoder

    def _start_cold(self) -> None:
        self._lock = threading.Lock()
        self._share = self._encoder = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies leave the lock and the share behind and start cold."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_share", "_encoder")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_cold()

    def _spec(self, device: str, token: str | None = None) -> EncoderSpec:
        model_kwargs = dict(self.model_kwargs or {})
        for name in ("device_map", "trust_remote_code", "use_safetensors"):
            model_kwargs.pop(name, None)
        revision = model_kwargs.pop("revision", None)
        local_files_only = model_kwargs.pop("local_files_only", False)
        # A length belongs to the component; as part of the encoder it would hold for everyone who shares it.
        ours = ("model_max_length", "trust_remote_code")
        tokenizer_kwargs = {name: value for name, value in (self.tokenizer_kwargs or {}).items() if name not in ours}
        try:
            return EncoderSpec.create(
                self.model,
                revision=self.revision or revision,
                device=device,
                backend=self.backend,
                token=token,
                local_files_only=self.local_files_only or local_files_only,
                model_kwargs=model_kwargs,
                tokenizer_kwargs=tokenizer_kwargs,
            )
        except TypeError as error:
            raise ValueError(f"model_kwargs and tokenizer_kwargs must hold plain values: {error}.") from error

    def _hub_token(self) -> str | None:
        """Resolve the token if the hub may be asked; what is on this machine loads without it."""
        if self.token is None or is_local(split_part(self.model)[0]):
            return None
        return self.token.resolve_value()

    def _torch_device(self) -> str:
        device_map = (self.model_kwargs or {}).get("device_map")
        name = None if device_map is None else _single_device(device_map)
        if name is None and self.device is None and self.backend in _CPU_ONLY:
            return "cpu"
        name = name or ComponentDevice.resolve_device(self.device).to_torch_str()
        return "cuda:0" if name == "cuda" else name  # one name per device, or it would hold the model twice


def refuse_remote_code(trust_remote_code: object) -> None:
    """Refuse to run code that comes with a checkpoint.

    Raises:
        ValueError: `trust_remote_code` is true.
    """
    if trust_remote_code:
        raise ValueError(
            "trust_remote_code=True is refused: no code from a checkpoint is ever run, and ROM checkpoints need none. "
            "Set it to False."
        )


def warn_of_unused(component: object, **options: object) -> None:
    """Name, in one warning, the options that were set and have no effect in a component."""
    unused = [f"{name}={value}" for name, value in options.items() if value]
    if unused:
        logger.warning(
            "{component} has no use for {names}: set without effect.",
            component=type(component).__name__,
            names=", ".join(unused),
        )


def _single_device(device_map: object) -> str | None:
    """Name the one device of a `device_map`; None where it leaves the choice to the machine."""
    devices = set(device_map.values()) if isinstance(device_map, dict) else {device_map}
    if len(devices) != 1:
        raise ValueError(f"device_map {device_map} names {len(devices)} devices; an encoder stands on one.")
    device = devices.pop()
    if device in _AUTOMATIC:
        return None
    return f"cuda:{device}" if isinstance(device, int) else str(device)

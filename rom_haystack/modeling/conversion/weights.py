"""Read the weights of other libraries' models without running anything that comes with them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.places import has_weights


class Inert:
    """Stand in for a settings object in a pickle: takes whatever it is given and does nothing with it."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        """Ignore all arguments."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


class SavedState(dict[str, Any]):
    """Stand in for DPR's `CheckpointState`, a named tuple: its values by their names."""

    def __new__(cls, *values: object) -> SavedState:
        """Name the values."""
        state = super().__new__(cls)
        names = ("model_dict", "optimizer_dict", "scheduler_dict", "offset", "epoch", "encoder_params")
        state.update(zip(names, values, strict=False))
        return state

    def __init__(self, *_: object) -> None:
        pass


#: Settings that DPR's training saves beside the weights. Their names stand for `Inert`, so no code of theirs runs.
_SETTINGS = (
    "argparse.Namespace",
    "builtins.dict",
    "builtins.list",
    "collections.defaultdict",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "typing.Any",
)


def load_pickled(path: Path) -> Any:
    """Read a file that torch wrote: tensors and plain values only.

    Raises:
        CheckpointError: It is damaged, or holds anything else.
    """
    mapped = zipfile.is_zipfile(path)  # an optimizer's state beside the weights then stays on disk
    try:
        known: list[Any] = [
            (SavedState, "dpr.utils.model_utils.CheckpointState"),
            *((Inert, name) for name in _SETTINGS),
        ]
        with torch.serialization.safe_globals(known):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights and plain values, or is damaged, and is not read: nothing pickled is ever "
            "run. If you trust the file, load it once where its program is installed, and save its weights alone: "
            'torch.save({"model_dict": torch.load(file, weights_only=False)["model_dict"]}, "weights.cp"). '
            f"({_first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} can't be read; is it damaged? ({_first_line(error)})") from error


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a small module: `model.safetensors`, else `pytorch_model.bin`, weights only.

    Raises:
        CheckpointError: There are none, or they are damaged.
    """
    if (path := folder / "model.safetensors").is_file():
        try:
            return load_file(path)
        except Exception as error:  # safetensors raises a class of its own
            raise CheckpointError(f"{path} can't be read; is it damaged? ({error})") from error
    if (path := folder / "pytorch_model.bin").is_file():
        return tensors_of(load_pickled(path), path)
    raise CheckpointError(f"{folder} holds no weights (model.safetensors or pytorch_model.bin).")


def tensors_of(state: object, path: Path) -> dict[str, Tensor]:
    """Check that what a file holds is weights by name.

    Raises:
        CheckpointError: It isn't.
    """
    if isinstance(state, dict) and state:
        tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
        if len(tensors) == len(state):
            return tensors
    raise CheckpointError(f"{path} holds no weights by name.")


def load_pretrained(model_class: Any, folder: Path, **options: Any) -> PreTrainedModel:
    """Load a model of transformers from a folder, in float32 and with every weight in it.

    Weights come from safetensors; where there are none, `pytorch_model.bin` is read, weights only.

    Raises:
        CheckpointError: The folder is damaged or incomplete.
    """
    pickled = next(iter(sorted(folder.glob("pytorch_model*.bin"))), None)
    if not has_weights(folder) and pickled is None:
        raise CheckpointError(f"{folder} holds no weights (*.safetensors or pytorch_model.bin).")
    try:
        model, report = model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=has_weights(folder),
            weights_only=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers, safetensors and torch raise many kinds, all meaning "damaged"
        raise CheckpointError(f"The model in {folder} can't be loaded: {_first_line(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise CheckpointError(f"The weights in {folder} do not fit its config.json: {', '.join(missing)} missing.")
    loaded: PreTrainedModel = model.eval()
    return loaded


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no more is known'}"

"""Tell what kind of model a folder or file holds. Needs neither torch nor transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from rom_haystack.modeling.places import MODEL_TYPE

#: `dpr`: a folder of one of Hugging Face's three DPR models. `original dpr`: a file written by DPR's own training.
#: `sentence-transformers`: a folder with modules.json. `reader`: a folder of any `…ForQuestionAnswering` model.
Kind = Literal["dpr", "original dpr", "sentence-transformers", "reader"]

#: The two encoders in one file of original DPR; each is a model of its own.
PARTS = ("question", "passage")

_READER = "ForQuestionAnswering"
#: How files begin that torch wrote: as a zip archive, and before PyTorch 1.6 as pickles.
_TORCH_FILES = (b"PK\x03\x04", b"\x80")


def split_part(model: str) -> tuple[str, str | None]:
    """Split `biencoder.cp:question` into the file and which of its encoders is meant; None where that is not said."""
    name, _, part = model.rpartition(":")
    return (name, part) if name and part in PARTS else (model, None)


def recognise(path: Path) -> Kind | None:
    """Return what kind of model lies at a path, by its configuration alone; None for ROM's own and unknown ones."""
    if path.is_file():
        with path.open("rb") as file:
            return "original dpr" if file.read(4).startswith(_TORCH_FILES) else None
    if (path / "modules.json").is_file():
        return "sentence-transformers"
    config = read_json(path / "config.json")
    if not isinstance(config, dict) or config.get("model_type") == MODEL_TYPE:
        return None
    if config.get("model_type") == "dpr":
        return "dpr"
    return "reader" if architecture(config).endswith(_READER) else None


def weight_places(folder: Path) -> list[str]:
    """Return where in the folder of a recognised model weights lie: `""`, or `"2_Dense/"`, say."""
    modules = read_json(folder / "modules.json")
    if recognise(folder) != "sentence-transformers" or not isinstance(modules, list):
        return [""]
    entries = [entry for entry in modules if isinstance(entry, dict)]
    paths = [str(e.get("path", "")) for e in entries if str(e.get("type")).endswith((".Transformer", ".Dense"))]
    return [f"{path}/" if path else "" for path in paths]


def architecture(config: dict[str, Any]) -> str:
    """Return the class of the model that a config.json describes; nothing if it doesn't say."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def read_json(path: Path) -> Any:
    """Read a JSON file; None if it is not there or can't be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

"""Checkpoints of components: found, weighed, saved, and compared."""

import filecmp
import re
import shutil
from pathlib import Path

from safetensors import safe_open

from rom_haystack.compat.replacing import replacing
from rom_haystack.components import ROMDocumentEmbedder, ROMExtractiveReader, ROMTextEmbedder
from rom_haystack.inference.converted import find_checkpoint
from rom_haystack.modeling.conversion.sources import read_json, split_part
from rom_haystack.modeling.places import MODEL_TYPE, is_local

#: What lies in folders of models: weights, tokenizers, exported graphs, and what training and publishing add.
_MODEL_FILES = re.compile(
    r"(config|generation_config|calibration|facts|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|model\.safetensors\.index)\.json|(vocab|merges)\.txt|.*\.(safetensors|onnx|onnx\.data|model)|openvino.*\.(xml|bin)"
    r"|README\.md|LICENSE(\.\w+)?|NOTICE(\.\w+)?|\.gitattributes|recipe\.yaml|metrics\.jsonl"
)
#: Weights of the reading head that judge a passage.
_RELEVANCE = "heads.reading.relevance."


def checkpoint_of(component: ROMDocumentEmbedder | ROMExtractiveReader | ROMTextEmbedder) -> Path:
    """Find the checkpoint that a component uses, converted where its model is of another kind.

    Raises:
        CheckpointError: There is no such model.
    """
    token = None if component.token is None or is_local(split_part(component.model)[0]) else component.token
    return find_checkpoint(
        component.model,
        revision=component.revision,
        token=None if token is None else token.resolve_value(),
        local_files_only=component.local_files_only,
    )


def passage_score_weight(checkpoint: Path) -> float:
    """Tell how much a passage's relevance should count for a checkpoint's reader, as for the model it was made from.

    DPR's readers rank by it first. Models for question answering have none: there its weights are 0. Both is seen in
    the checkpoint itself, so a model that was trained on is weighed as what it became.
    """
    heads = read_json(checkpoint / "config.json").get("heads", {})
    if heads.get("reading", {}).get("null") == "none":
        return 1.0
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith(_RELEVANCE)]  # noqa: SIM118 (it is no mapping)
            if names and not any(weights.get_tensor(name).any() for name in names):
                return 0.0
    return 0.5


def copy_model(source: Path, target: Path) -> None:
    """Copy a checkpoint to a folder; a model that was there before is replaced.

    Raises:
        ValueError: As in `check_replaceable`.
    """
    target = target.expanduser().resolve()
    if target == source.resolve():
        return
    check_replaceable(target)
    with replacing(target) as half:
        for file in source.iterdir():
            if _is_model_file(file):
                shutil.copy2(file, half)


def check_replaceable(target: Path) -> None:
    """Check that a folder may be replaced by a model: it is not there, empty, or holds a ROM checkpoint alone.

    Raises:
        ValueError: It holds something else, or is a file.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    strangers = [file.name for file in target.glob("*") if not _is_model_file(file)]
    if strangers or not is_checkpoint(target):
        inside = f" and holds {strangers[0]}" if strangers else ""
        raise ValueError(f"{target} is there already{inside}: it is no saved model alone. Choose another folder.")


def is_checkpoint(folder: Path) -> bool:
    """Tell by a folder's config.json whether it holds a ROM checkpoint."""
    config = read_json(folder / "config.json")
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def same_model(one: Path, other: Path) -> bool:
    """Tell whether two folders hold the same files, so that one model in memory can do for both."""
    names = {path.name for path in one.iterdir()}
    if names != {path.name for path in other.iterdir()}:
        return False
    files = [name for name in names if (one / name).is_file()]
    return len(files) == len(names) and not any(filecmp.cmpfiles(one, other, files, shallow=False)[1:])


def _is_model_file(file: Path) -> bool:
    return file.is_file() and _MODEL_FILES.fullmatch(file.name) is not None

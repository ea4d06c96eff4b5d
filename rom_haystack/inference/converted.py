"""Models of other kinds as checkpoints: converted once, into the user's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from rom_haystack.caches import cache_home
from rom_haystack.inference.announcing import preparation
from rom_haystack.modeling.conversion.sources import recognise, split_part, weight_places
from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.places import SETTINGS, check_folder, fetch, is_local, locate

#: Version of what conversions make; raising it has every model converted anew.
CONVERSION_VERSION = 2
#: Weights as transformers and sentence-transformers name them; the latter are read by torch's weights-only loader.
_WEIGHTS = "model*.safetensors"
_PICKLED = "pytorch_model*.bin"
#: Files that a conversion may read.
_READ = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.model")


def find_checkpoint(
    model: str | Path, *, revision: str | None = None, token: str | None = None, local_files_only: bool = False
) -> Path:
    """Find a checkpoint as `resolve_checkpoint` does; a model of another kind is converted, once, and found then.

    Converted are Hugging Face's DPR models, files of the original DPR (`biencoder.cp:question` names one of the two
    encoders in a file), sentence-transformers models and question answering models.

    Args:
        model: As in `resolve_checkpoint`, or a folder, file or hub id of a model of another kind.
        revision: As in `resolve_checkpoint`.
        token: As in `resolve_checkpoint`.
        local_files_only: As in `resolve_checkpoint`.

    Raises:
        CheckpointError: Nothing of that name can be found, it is of no known kind, or it can't be converted.
    """
    name, part = split_part(str(model))
    path = find_source(name, revision=revision, token=token, local_files_only=local_files_only)
    if recognise(path) is None:
        if path.is_file():
            raise CheckpointError(
                f"'{model}' is a file; a ROM checkpoint is a folder with config.json and weights, and a file of the "
                "original DPR is what torch wrote."
            )
        check_folder(path)
        if part is not None:
            raise CheckpointError(f"'{name}' is a ROM checkpoint, which has no part '{part}'; leave it out.")
        return path
    return _converted(path, part, name=str(model))


def find_source(
    model: str, *, revision: str | None = None, token: str | None = None, local_files_only: bool = False
) -> Path:
    """Find the folder or file that a name means; of a hub id, what a conversion reads is fetched, and nothing else.

    Pickled weights are fetched for those parts of a model that have no others.

    Args:
        model: As in `find_checkpoint`, without a part.
        revision: As in `find_checkpoint`.
        token: As in `find_checkpoint`.
        local_files_only: As in `find_checkpoint`.

    Raises:
        CheckpointError: Nothing of that name can be found.
    """
    path = locate(model, revision=revision, token=token, local_files_only=local_files_only)
    if is_local(model) or recognise(path) is None:
        return path
    options: dict[str, Any] = {"revision": revision, "token": token, "local_files_only": local_files_only}
    places = weight_places(path)
    files = [*SETTINGS, "*.txt", "*.model", *(f"{place}{_WEIGHTS}" for place in places)]
    path = fetch(model, files, or_cached=not _without_weights(path, places), **options)
    if missing := _without_weights(path, places):
        path = fetch(model, [*files, *(f"{place}{_PICKLED}" for place in missing)], or_cached=False, **options)
    if _without_weights(path, places):  # offline, what is in the cache comes back as it is
        raise CheckpointError(
            f"The copy of '{model}' in the cache has no weights, and the hub has none (*.safetensors or "
            "pytorch_model.bin) or can't be asked now."
        )
    return path


def _without_weights(folder: Path, places: list[str]) -> list[str]:
    return [place for place in places if not any(any((folder / place).glob(kind)) for kind in (_WEIGHTS, _PICKLED))]


def _converted(source: Path, part: str | None, *, name: str) -> Path:
    place = _place(source, part)
    if place.is_dir():
        return place
    from rom_haystack.modeling.conversion.convert import convert  # noqa: PLC0415 (it imports torch)
    from rom_haystack.modeling.conversion.writing import write_checkpoint  # noqa: PLC0415 (so does it)

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            if not place.is_dir():  # another process may have been faster
                preparation.info("Converting %s into a ROM checkpoint, once …", name)
                write_checkpoint(convert(source, part=part), place, sources=[name])
    except OSError as error:
        raise CheckpointError(
            f"{name} can't be converted in {place.parent} ({error}). Set ROM_HOME to a writable folder."
        ) from error
    return place


def _place(source: Path, part: str | None) -> Path:
    """Name a folder in the cache after a source and the state of its files."""
    state = [str(source), str(part), f"version {CONVERSION_VERSION}", *_state(source)]
    key = hashlib.blake2b("\0".join(state).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return cache_home() / "converted" / f"{source.name}-{key}"


def _state(source: Path) -> Iterator[str]:
    """Describe each file that matters; a file's tokenizer lies beside it, a folder's modules below it."""
    if source.is_file():
        paths = [source, *(source.with_name(name) for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"))]
        root = source.parent
    else:
        below = source.iterdir() if recognise(source) == "sentence-transformers" else ()
        folders = [source, *(path for path in below if path.is_dir())]
        paths = sorted(path for folder in folders for pattern in _READ for path in folder.glob(pattern))
        root = source
    for path in paths:
        if path.is_file():
            status = path.stat()
            yield f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}"

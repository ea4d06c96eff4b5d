"""What is fixed when a store is made, and the folder it lies in."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from haystack.document_stores.errors import DocumentStoreError

#: Name of the SQLite file in a store's folder.
DATABASE = "documents.sqlite"
#: Names of the files that belong to one generation of a store.
DERIVED_FILE = re.compile(r"vectors-\d+\.bin|index-\d+-\d+\.faiss(?:\.new)?")
_OUR_FILE = re.compile(rf"documents\.sqlite(?:-wal|-shm|-journal)?|{DERIVED_FILE.pattern}")


@dataclass(frozen=True)
class Settings:
    """What is fixed when a store is made.

    Attributes:
        embedding_dim: Components per embedding.
        vector_dtype: `float16` or `float32`.
        similarity: `cosine` or `dot_product`.
        tokenizer: FTS5's.
        keyword_meta_fields: Metadata that keyword search covers besides the content.
    """

    embedding_dim: int
    vector_dtype: str
    similarity: str
    tokenizer: str
    keyword_meta_fields: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Turn the settings into values that JSON has."""
        return {**asdict(self), "keyword_meta_fields": list(self.keyword_meta_fields)}

    def differences(self, stored: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Compare the settings with those of a store: names with the stored and the own value, where they differ."""
        return {name: (stored.get(name), own) for name, own in self.to_dict().items() if stored.get(name) != own}


def repaired_siblings(folder: Path) -> list[Path]:
    """Find the whole stores that repairs made and did not put in the place of the damaged one, as they were killed."""
    name = re.compile(rf"{re.escape(folder.name)}\.repaired-\d+")
    return sorted(path for path in folder.parent.glob("*") if name.fullmatch(path.name))


def strangers(folder: Path) -> list[str]:
    """Name what lies in a folder and is no file of a store."""
    return [path.name for path in folder.iterdir() if not _OUR_FILE.fullmatch(path.name) or path.is_dir()]


def prepare_folder(folder: Path, *, read_only: bool) -> None:
    """Check that a folder is a store or may become one, and make it where there is none.

    Raises:
        DocumentStoreError: It holds something else, can't be made, or awaits the end of a repair.
    """
    if not folder.exists() and (repaired := repaired_siblings(folder)):
        raise DocumentStoreError(
            f"The repair of the store in {folder} was interrupted: what it kept is in {repaired[-1]}. Run the repair "
            "again, with rom_haystack.document_stores.repair, which puts it in its place."
        )
    if folder.exists() and not folder.is_dir():
        raise DocumentStoreError(f"{folder} is a file; a store is a folder. Choose another path.")
    if (folder / DATABASE).exists():
        return
    if read_only:
        raise DocumentStoreError(f"There is no store in {folder}. Check the path, or open it without read_only=True.")
    others = strangers(folder) if folder.exists() else []
    if others:
        raise DocumentStoreError(
            f"{folder} holds other files ({others[0]}, …) and no store. Choose an empty or a new folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DocumentStoreError(f"The folder {folder} can't be made: {error.strerror or error}.") from error

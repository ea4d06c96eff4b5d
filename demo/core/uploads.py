"""Files as they are handed in: what is taken, and why something is not."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from rom_haystack.files import MIME_TYPES, mime_type_of
from rom_haystack.folders import MAX_FILE_SIZE

_MB = 1024 * 1024
#: Most files, and most bytes, that are taken at a time.
MAX_FILES = 200
MAX_BYTES = 200 * _MB
#: Most files, and most bytes, that a collection holds.
MAX_COLLECTION_FILES = 2000
MAX_COLLECTION_BYTES = 1000 * _MB
#: Most characters of a file's name. File systems take 255 bytes, and a name of these may become "… (copy)" elsewhere.
MAX_NAME_LENGTH = 150
_MAX_NAME_BYTES = 240

_KIND_NAMES = {kind: ending.removeprefix(".") for ending, kind in reversed(MIME_TYPES.items())}  # the first of each
#: The endings of files that are read, for people.
KINDS = ", ".join(dict.fromkeys(_KIND_NAMES[kind] for kind in MIME_TYPES.values()))
#: The limits, said before they bite.
LIMITS = (
    f"Up to {MAX_FILES} files at a time, {MAX_FILE_SIZE // _MB} MB each and {MAX_BYTES // _MB} MB together; "
    f"{MAX_COLLECTION_FILES:,} files in a collection. Kinds: {KINDS}."
)

# Windows takes none of these as a name, whatever the ending; a collection may move there.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])( *\..*)?")
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|]")
_TITLE_LENGTH = 80
_DRIVE = re.compile(r"[A-Za-z]:")


class UploadError(ValueError):
    """A file that can't be taken; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Upload:
    """A file that is handed in.

    Attributes:
        name: Its name, as it came.
        data: Its content.
    """

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Added:
    """What came of files that were handed in.

    Attributes:
        added: Names of files that are new.
        replaced: Names of files that took the place of earlier ones.
        failed: Names of files that could not be taken or read, each with the reason.
    """

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


def pasted(title: str, text: str) -> Upload:
    """Make a text file of a text that was pasted.

    Args:
        title: What to call it; characters that file names lack become blanks. Blank for the text's first words.
        text: The text.

    Raises:
        UploadError: There is no text.
    """
    if not text.strip():
        raise UploadError("has no text; paste some first")
    named = " ".join(_NOT_IN_NAMES.sub(" ", title or text[:200]).split()).strip(". ")
    short = named if len(named) <= _TITLE_LENGTH else named[:_TITLE_LENGTH].rsplit(" ", 1)[0]
    return Upload(f"{short or 'Pasted text'}.txt", text.encode("utf-8", "replace"))


def check_uploads(
    uploads: Sequence[Upload], present: Mapping[str, int]
) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Tell what can be taken.

    Args:
        uploads: What is handed in.
        present: Sizes of the files that are there already, by name.

    Returns:
        Contents by the names to save them by, and the names as they came of what can't be taken, with reasons.
    """
    taken: dict[str, bytes] = {}
    failed: list[tuple[str, str]] = []
    for number, upload in enumerate(uploads):
        try:
            if number >= MAX_FILES:
                raise UploadError(f"is beyond the {MAX_FILES} files that are taken at a time; add it separately")
            name = check_upload(upload)
            _check_room(name, upload.data, taken, present)
        except UploadError as error:
            failed.append((upload.name, str(error)))
        else:
            taken[name] = upload.data
    return taken, failed


def check_upload(upload: Upload) -> str:
    """Check a file by itself.

    Returns:
        The name to save it by.

    Raises:
        UploadError: It can't be taken.
    """
    name = safe_name(upload.name)
    if mime_type_of(name) is None:
        ending = PurePosixPath(name).suffix or "without ending"
        raise UploadError(f"is of a kind ({ending}) that is not read; the kinds are {KINDS}")
    if not upload.data:
        raise UploadError("is empty")
    if len(upload.data) > MAX_FILE_SIZE:
        raise UploadError(
            f"is too large: {len(upload.data) / _MB:.0f} MB, and the limit is {MAX_FILE_SIZE // _MB} MB; split it"
        )
    return name


def safe_name(name: str) -> str:
    """Check a file's name: it must be plain, and no path.

    Returns:
        The name, composed (NFC) so that it is the same wherever it was typed, without outer blanks.

    Raises:
        UploadError: It is not.
    """
    composed = unicodedata.normalize("NFC", name).strip()
    if not composed:
        raise UploadError("has no name")
    if "/" in composed or "\\" in composed or _DRIVE.match(composed):
        raise UploadError("has a name that is a path; a plain file name is needed")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in composed):
        raise UploadError("has a name with control characters; rename it")
    if any(unicodedata.bidirectional(character) in _DIRECTIONS for character in composed):
        raise UploadError("has a name with characters that change the direction of writing; rename it")
    if composed.startswith("."):
        raise UploadError("has a name that begins with a dot, as hidden files do; rename it")
    if len(composed) > MAX_NAME_LENGTH or len(composed.encode()) > _MAX_NAME_BYTES:
        raise UploadError(f"has a name of {len(composed)} characters; shorten it to {MAX_NAME_LENGTH} or fewer")
    if _RESERVED.fullmatch(composed):
        raise UploadError("has a name that Windows keeps for itself; rename it")
    return composed


# Embeddings, overrides and isolates, by which a name can be made to look as if it ended otherwise.
_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def _check_room(name: str, data: bytes, taken: Mapping[str, bytes], present: Mapping[str, int]) -> None:
    """Check a file beside those that were taken before it, and those that are there.

    Raises:
        UploadError: It can't be taken.
    """
    if any(name.casefold() == other.casefold() for other in taken):
        raise UploadError("has the name of another file that is handed in with it; rename one of them")
    same = [other for other in present if other.casefold() == name.casefold() and other != name]
    if same:  # one file on some file systems, two on others
        raise UploadError(f"differs from {same[0]}, which is there already, only in capital letters; rename it")
    if sum(map(len, taken.values())) + len(data) > MAX_BYTES:
        raise UploadError(f"is beyond the {MAX_BYTES // _MB} MB that are taken at a time; add it separately")
    after = {**present, **{other: len(content) for other, content in taken.items()}, name: len(data)}
    if len(after) > MAX_COLLECTION_FILES:
        raise UploadError(f"is beyond the {MAX_COLLECTION_FILES:,} files that a collection holds; use another one")
    if sum(after.values()) > MAX_COLLECTION_BYTES:
        raise UploadError(f"is beyond the {MAX_COLLECTION_BYTES // _MB} MB that a collection holds; use another one")

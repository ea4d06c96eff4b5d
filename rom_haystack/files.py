"""Files as they come: which kinds are read, what is wrong with one, its text encoding and its title."""

import codecs
import html
import io
import itertools
import re
import zipfile
from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.components.converters.utils import normalize_metadata
from haystack.dataclasses import ByteStream

from rom_haystack.unreadable import UnreadableSourceError

TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

#: Supported file name endings, in lower case, and the MIME type of each.
MIME_TYPES = {
    ".txt": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
}

#: Meta field that ties a document to the source it was converted from, while it is on its way to passages.
SOURCE = "_source"

# Longest first: the mark of UTF-16 LE begins that of UTF-32 LE.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# A tag that can be read as ASCII is not in UTF-16 or UTF-32, whatever it says.
_HTML_CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*(?!u(?:tf)?[-_]?(?:16|32))([\w.:-]+)", re.IGNORECASE
)
_HTML_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
# It begins with a key, which tells it from text between two rules.
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?=[\w-]+[ \t]*:)(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_TITLE_LENGTH = 200
# Bytes that a Word file, which is a ZIP archive, may unpack to; and those of HTML, and of Word's XML: few bytes can be
# many elements, each of which takes time.
_MAX_UNPACKED = 100 * 1024 * 1024
_MAX_MARKUP = 25 * 1024 * 1024
# Elements that are seldom closed are left out: they need not be, and don't nest.
_HTML_NESTING_TAG = re.compile(
    r"<(/?)(?!(?:p|li|d[td]|t[dhr]|option|br|hr|img|input|meta|link|wbr|col|source|area|base|embed|param|track)\b)[a-z]",
    re.IGNORECASE,
)
# To its end, or to the end of the page.
_HTML_WITHOUT_ELEMENTS = re.compile(
    r"<!--(?:.*?-->|.*\Z)|<(script|style)\b(?:.*?</\1\s*>|.*\Z)", re.IGNORECASE | re.DOTALL
)
_MAX_NESTING = 2000


@component
class SourceReader:
    """Read files into byte streams that Haystack's converters understand.

    Text of any encoding becomes UTF-8, and every stream gets the meta fields `title`, `mime_type` and, for a file,
    `file_path`. What can't be read is set aside with a reason, and the rest goes on.
    """

    @component.output_types(streams=list[ByteStream], documents=list[Document], skipped=dict[str, str])
    def run(
        self,
        sources: list[str | Path | ByteStream] | None = None,
        meta: dict[str, Any] | list[dict[str, Any]] | None = None,
        documents: list[Document] | None = None,
    ) -> dict[str, Any]:
        """Read sources.

        Args:
            sources: Paths of files, or byte streams; a stream's kind is its `mime_type`, else the ending of its meta
                field `file_path`.
            meta: Meta fields for all documents, or one dictionary per source. They override what is found in a file.
            documents: Documents that need no reading; passed on, so that a pipeline goes on where there is no file.

        Returns:
            `streams`, `documents`, and `skipped`: reasons by the name of the source.

        Raises:
            ValueError: `meta` is a list of another length than `sources`.
        """
        sources = sources or []
        streams: list[ByteStream] = []
        skipped: dict[str, str] = {}
        for number, (source, given) in enumerate(zip(sources, normalize_metadata(meta, len(sources)), strict=True)):
            name = source_name(source, number)
            try:
                stream = _open(source)
                streams.append(_prepare(stream, name, {**stream.meta, **given, SOURCE: name}))
            except OSError as error:
                skipped[name] = f"can't be read: {error.strerror or error}"
            except UnreadableSourceError as error:
                skipped[name] = str(error)
        return {"streams": streams, "documents": documents or [], "skipped": skipped}


def source_name(source: str | Path | ByteStream, number: int) -> str:
    """Name a source in reports: its path, else its number."""
    path = source.meta.get("file_path") if isinstance(source, ByteStream) else source
    return displayable(str(path)) if path else f"source {number + 1}"


def mime_type_of(path: str | Path) -> str | None:
    """Tell a file's MIME type by its ending; None where files of that kind are not read."""
    return MIME_TYPES.get(Path(path).suffix.lower())


def decode(data: bytes, *, declared: str | None = None) -> str:
    """Decode text of unknown encoding.

    In this order: byte order mark, declared encoding, UTF-8, then a guess. Guessing is unreliable for short Western
    texts, so where few bytes are beyond ASCII they are read as Windows-1252, its most common encoding.

    Raises:
        UnreadableSourceError: The bytes are no text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            # Text cut within a character is still UTF-8, and a guess would take it for another encoding.
            text = data.decode(encoding, "replace") if mark == codecs.BOM_UTF8 else _try_decode(data, encoding)
            break
    else:
        text = (_try_decode(data, declared) if declared else None) or _try_decode(data, "utf-8") or _guess(data)
    if text is None or len(_CONTROL.findall(text)) > len(text) / 20:
        raise UnreadableSourceError("looks like binary data, not text")
    return whole_characters(text).replace("\r\n", "\n").replace("\r", "\n")


def whole_characters(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which no tokenizer or file takes."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def displayable(name: str) -> str:
    """Make a file name printable: bytes that are no text in the file system's encoding become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def find_title(text: str, mime_type: str) -> str | None:
    """Find the title that a Markdown or HTML text gives itself: front matter or first heading, or `<title>`."""
    if mime_type == HTML:
        found = _HTML_TITLE.search(text)
        title = html.unescape(found[1]) if found else None
    elif mime_type == MARKDOWN:
        front = _FRONT_MATTER.match(text)
        named = _FRONT_TITLE.search(front[1]) if front else None
        title = named[1] if named else _first_heading(text[front.end() :] if front else text)
    else:
        title = None
    return " ".join(title.split())[:_TITLE_LENGTH] or None if title else None


def readable_stem(name: str) -> str:
    """Turn a file name into a title: `annual_report-2024.pdf` becomes `annual report 2024`."""
    stem = Path(name).stem
    return " ".join(re.sub(r"[_\-]+", " ", stem).split()) or stem


def _open(source: str | Path | ByteStream) -> ByteStream:
    if isinstance(source, ByteStream):
        kind = source.mime_type or mime_type_of(str(source.meta.get("file_path", "")))
        return ByteStream(source.data, meta=dict(source.meta), mime_type=kind)
    path = Path(source)
    if not path.is_file():
        raise UnreadableSourceError("is no file" if path.exists() else "is not there")
    return ByteStream(path.read_bytes(), meta={"file_path": displayable(str(path))}, mime_type=mime_type_of(path))


def _prepare(stream: ByteStream, name: str, meta: dict[str, Any]) -> ByteStream:
    kind = stream.mime_type or ""
    if kind not in MIME_TYPES.values():
        ending = Path(name).suffix or "without ending"
        raise UnreadableSourceError(f"files of this kind ({ending}) are not read, only {', '.join(MIME_TYPES)}")
    if not stream.data.strip():
        raise UnreadableSourceError("is empty")
    data, title = stream.data, None
    passed_on = kind
    if kind == PDF:
        from rom_haystack.pdf import pdf_text  # noqa: PLC0415 (only PDF needs it)

        data, passed_on = pdf_text(data).encode("utf-8", "surrogatepass"), TEXT
    elif kind == DOCX:
        _check_docx(data)
    else:
        charset = _HTML_CHARSET.search(data[:4096]) if kind == HTML else None
        text = decode(data, declared=charset[1].decode("ascii") if charset else None)
        title = find_title(text, kind)
        if kind == HTML:
            _check_size("an HTML page of", len(data), _MAX_MARKUP)
            _check_nesting(text)
        data = (_FRONT_MATTER.sub("", text) if kind == MARKDOWN else text).encode("utf-8")
    meta = {**meta, "mime_type": kind, "title": meta.get("title") or title or readable_stem(name)}
    return ByteStream(data, meta=meta, mime_type=passed_on)


def _try_decode(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError):  # some of Python's codecs raise the plain UnicodeError
        return None


def _guess(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    if sum(byte > 127 for byte in data[:65536]) * 4 < len(data[:65536]):
        return _try_decode(data, "cp1252") or data.decode("latin-1")
    from charset_normalizer import from_bytes  # noqa: PLC0415 (slow to import, seldom needed)

    best = from_bytes(data).best()
    return None if best is None else str(best)


def _first_heading(text: str) -> str | None:
    from markdown_it import MarkdownIt  # noqa: PLC0415 (only Markdown needs it)

    tokens = MarkdownIt().parse(text)
    for token, content in itertools.pairwise(tokens):
        if token.type == "heading_open":
            title = "".join(child.content for child in content.children or [])
            if title.strip():
                return title
    return None


def _check_docx(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = {part.filename: part.file_size for part in archive.infolist()}
            _check_size("a Word file (.docx) that unpacks to", sum(sizes.values()), _MAX_UNPACKED)
            _check_size("a Word file (.docx) with a text of", sizes["word/document.xml"], _MAX_MARKUP)
            damaged = archive.testzip() is not None
    except UnreadableSourceError:
        raise
    except Exception as error:  # damaged archives make zipfile and zlib raise errors of many kinds
        raise UnreadableSourceError("is no readable Word file (.docx)") from error
    if damaged:
        raise UnreadableSourceError("is a damaged Word file (.docx)")


def _check_size(what: str, size: int, limit: int) -> None:
    if size > limit:
        size, limit = (round(value / 1024 / 1024) for value in (size, limit))
        raise UnreadableSourceError(f"is {what} {size:,} MB, and the limit is {limit} MB; split it into smaller files")


def _check_nesting(text: str) -> None:
    """Refuse HTML that is nested so deep that parsers take hours over it; pages of people go some tens deep."""
    depth = 0
    text = _HTML_WITHOUT_ELEMENTS.sub("", text)
    for tag in _HTML_NESTING_TAG.finditer(text):
        depth = max(depth - 1, 0) if tag[1] else depth + 1
        if depth > _MAX_NESTING:
            raise UnreadableSourceError(f"is an HTML page whose elements are nested more than {_MAX_NESTING:,} deep")

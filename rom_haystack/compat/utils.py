"""What 1.x's tutorials took from `haystack.utils`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from pprint import pprint
from typing import Any

from haystack import logging

from rom_haystack.compat.arguments import Unused, warn_of_unused
from rom_haystack.compat.documents import Answer, Document
from rom_haystack.files import SourceReader, displayable
from rom_haystack.pipelines import file_converters

logger = logging.getLogger(__name__)

_FIELDS = {"minimum": ("answer", "context"), "medium": ("answer", "context", "score")}
_ENCODING = {"encoding": Unused(None, "Encodings are found out file by file.")}
_HEADING = re.compile(r"==.*==")
#: Lines of a wiki page that are no longer than this are captions, list items and the like.
_SHORT = 30


def print_answers(results: dict[str, Any], details: str = "all", max_text_len: int | None = None) -> None:
    """Print a prediction's answers.

    Args:
        results: What a pipeline or a reader returned, of one query or of several.
        details: `minimum` (answer and context), `medium` (the score, too) or `all`.
        max_text_len: Most characters of a context; None for all.

    Raises:
        ValueError: There are no answers in it, or `details` is something else.
    """
    if "answers" not in results:
        raise ValueError(f"There are no 'answers' in these results, only {', '.join(results) or 'nothing'}.")
    if details != "all" and details not in _FIELDS:
        raise ValueError(f"details is {details!r}; it must be 'minimum', 'medium' or 'all'.")
    if "queries" in results:
        for query, answers in zip(results["queries"], results["answers"], strict=True):
            print_answers({"query": query, "answers": answers}, details, max_text_len)
        return
    if "query" in results:
        print(f"\nQuery: {results['query']}")
    print("Answers:")
    pprint([_shown(answer, details, max_text_len) for answer in results["answers"]], indent=4, sort_dicts=False)


def convert_files_to_docs(
    dir_path: str | Path,
    clean_func: Callable[[str], str] | None = None,
    split_paragraphs: bool = False,
    encoding: str | None = None,
    id_hash_keys: Sequence[str] | None = None,
) -> list[Document]:
    """Turn the files of a folder, and of those in it, into documents whose `meta["name"]` is the file's name.

    Besides 1.x's pdf, txt and docx, Markdown and HTML are read. Files that can't be are named in a warning.

    Args:
        dir_path: The folder.
        clean_func: Called with each file's text; returns what is taken.
        split_paragraphs: Make a document of each paragraph (between two line ends); else of each file.
        encoding: Without effect.
        id_hash_keys: Names of the attributes that documents' ids depend on; None for the content.

    Raises:
        ValueError: There is no such folder.
    """
    warn_of_unused("convert_files_to_docs", _ENCODING, {"encoding": encoding})
    folder = Path(dir_path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    by_type = {kind: converter for kind, (_, converter) in file_converters().items()}
    documents: list[Document] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        read = SourceReader().run(sources=[path])
        for name, reason in read["skipped"].items():
            logger.warning("Skipped {file}: {reason}.", file=name, reason=reason)
        for stream in read["streams"]:
            converter: Any = by_type[stream.mime_type]
            for converted in converter.run(sources=[stream])["documents"]:
                text = converted.content or ""
                text = clean_func(text) if clean_func else text
                for part in text.split("\n\n") if split_paragraphs else [text]:
                    if part.strip():
                        meta = {"name": displayable(path.name)}
                        documents.append(Document(content=part, meta=meta, id_hash_keys=id_hash_keys))
    return documents


def clean_wiki_text(text: str) -> str:
    """Clean a Wikipedia article's text: drop short lines and empty sections, and part sections by blank lines."""
    sections: list[list[str]] = [[]]
    for line in text.split("\n"):
        if _HEADING.fullmatch(line):
            sections.append([line])
        elif len(line) > _SHORT:
            sections[-1].append(line)
    full = [section for section in sections if any(not _HEADING.fullmatch(line) for line in section)]
    return "\n\n\n".join("\n".join(section) for section in full)


def _shown(answer: Answer, details: str, longest: int | None) -> Answer | dict[str, Any]:
    context = answer.context
    if longest is not None and context is not None and len(context) > longest:
        answer = replace(answer, context=f"{context[:longest]}...")
    if details == "all":
        return answer
    shown = {name: getattr(answer, name) for name in _FIELDS[details]}
    return {name: value for name, value in shown.items() if value is not None}

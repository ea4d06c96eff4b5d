"""A PDF file of a given length, of sentences of the bundled sample."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

from fpdf import FPDF

from rom_haystack.inference.samples import read_sample


def write_pdf(path: Path, pages: int, words: int) -> None:
    """Write a PDF file.

    Args:
        path: The file.
        pages: Its pages.
        words: Words on each page.
    """
    spoken = cycle(" ".join(read_sample().passages).encode("latin-1", "replace").decode("latin-1").split())
    file = FPDF()
    file.set_font("Helvetica", size=10)
    file.set_auto_page_break(False)
    for _ in range(pages):
        file.add_page()
        file.multi_cell(0, 5, " ".join(islice(spoken, words)))
    file.output(str(path))

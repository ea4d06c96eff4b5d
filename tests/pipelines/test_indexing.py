"""Files converted to passages, and files and documents put into a store."""

import docx
import pytest
from fpdf import FPDF
from haystack import Document
from haystack.dataclasses import ByteStream

from rom_haystack import ROMIndexer
from rom_haystack.pipelines import ROMFileConverter

from .conftest import PARAGRAPHS


@pytest.fixture
def five_files(tmp_path):
    """One file of each kind, all with the same two paragraphs; in the PDF file each has a page of its own."""
    (tmp_path / "plain_text.txt").write_text("\n\n".join(PARAGRAPHS))
    (tmp_path / "notes.md").write_text("# Birds of *prey*\n\n" + "\n\n".join(PARAGRAPHS))
    paragraphs = "".join(f"<p>{paragraph}</p>" for paragraph in PARAGRAPHS)
    (tmp_path / "site.html").write_text(
        f"<html><head><title>Bird &amp; co</title></head><body>{paragraphs}</body></html>"
    )
    pdf = FPDF()
    pdf.set_font("Helvetica")
    for paragraph in PARAGRAPHS:
        pdf.add_page()
        pdf.multi_cell(0, text=paragraph)
    pdf.output(str(tmp_path / "field-guide.pdf"))
    word = docx.Document()
    for paragraph in PARAGRAPHS:
        word.add_paragraph(paragraph)
    word.save(str(tmp_path / "letter.docx"))
    return sorted(tmp_path.iterdir())


def test_five_formats_with_titles_and_pages(five_files):
    result = ROMFileConverter(split_length=9).run(sources=five_files)

    assert result["skipped"] == {}
    found = {}
    for passage in result["documents"]:
        name = passage.meta["file_path"].rpartition("/")[2]
        place = (passage.meta["title"], passage.meta.get("page_number"), " ".join(passage.content.split()))
        found.setdefault(name, []).append(place)
    first, second = PARAGRAPHS
    assert found == {
        "field-guide.pdf": [("field guide", 1, first), ("field guide", 2, second)],
        "letter.docx": [("letter", None, first), ("letter", None, second)],
        "notes.md": [("Birds of prey", None, text) for text in ("Birds of prey", first, second)],
        "plain_text.txt": [("plain text", None, first), ("plain text", None, second)],
        "site.html": [("Bird & co", None, first), ("Bird & co", None, second)],
    }


def test_html_keeps_its_declared_encoding():
    page = "<html><head><meta charset='windows-1252'></head><body><p>Zürich liegt am See, naïve Café.</p></body></html>"
    source = ByteStream(page.encode("cp1252"), mime_type="text/html")
    assert ROMFileConverter().run(sources=[source])["documents"][0].content == "Zürich liegt am See, naïve Café."


def test_a_scanned_pdf_is_reported(tmp_path):
    pdf = FPDF()
    pdf.add_page()
    pdf.output(str(tmp_path / "scan.pdf"))
    result = ROMFileConverter().run(sources=[tmp_path / "scan.pdf"])
    assert result["documents"] == []
    assert "OCR" in result["skipped"][str(tmp_path / "scan.pdf")]


def test_indexer_takes_files_and_documents_and_overwrites(store, tiny_checkpoint, tmp_path):
    (tmp_path / "a.txt").write_text("Text of a file.")
    (tmp_path / "b.txt").write_bytes(b"\0\1\2")
    indexer = ROMIndexer(store, model=str(tiny_checkpoint))
    inputs = {
        "sources": [tmp_path / "a.txt", tmp_path / "b.txt"],
        "meta": [{"year": 2024}, {}],
        "documents": [Document(content="A document.", meta={"title": "Given"})],
    }

    result = indexer.run(**inputs)
    again = indexer.run(**inputs)

    assert result["documents_written"] == again["documents_written"] == 2
    assert list(result["skipped"]) == [str(tmp_path / "b.txt")]
    found = {document.content: document for document in store.filter_documents()}
    assert set(found) == {"Text of a file.", "A document."}
    assert found["Text of a file."].meta["year"] == 2024
    assert all(len(document.embedding) == 64 for document in found.values())
    assert all("_source" not in document.meta for document in found.values())


def test_indexer_embeds_the_title(store, tiny_checkpoint):
    indexer = ROMIndexer(store, model=str(tiny_checkpoint))
    indexer.run(documents=[Document(content="same", meta={"title": title}) for title in ("Rivers", "Mountains")])
    one, two = store.filter_documents()
    assert one.embedding != two.embedding

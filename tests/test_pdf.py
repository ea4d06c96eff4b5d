import io

import pypdf
import pytest
from haystack.dataclasses import ByteStream
from pypdf.generic import DecodedStreamObject, NameObject

from rom_haystack import pdf as pdf_module
from rom_haystack.files import PDF, TEXT, SourceReader
from rom_haystack.pdf import MAX_PDF_PAGES, pdf_pages, pdf_text
from rom_haystack.unreadable import UnreadableSourceError


def changed(data, change):
    """A PDF file after a change by pypdf."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    change(writer)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def with_content(data, page, content):
    """A PDF file, one page of which draws something else."""

    def change(writer):
        stream = DecodedStreamObject()
        stream.set_data(content)
        writer.pages[page][NameObject("/Contents")] = stream

    return changed(data, change)


def test_pages_are_parted_by_form_feeds(pdf):
    data = pdf("The first page.", "", "The third page.")
    assert pdf_text(data).split("\f") == ["The first page.", "", "The third page."]
    assert pdf_pages(data) == 3


def test_it_reaches_the_converters_as_text(pdf):
    stream = SourceReader().run(sources=[ByteStream(pdf("One.", "Two."), mime_type=PDF)])["streams"][0]
    assert (stream.data, stream.mime_type, stream.meta["mime_type"]) == (b"One.\fTwo.", TEXT, PDF)


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: b"%PDF-1.7\n" + b"x" * 1000, lambda _: b"x"])
def test_damaged_files_are_named(pdf, damage):
    with pytest.raises(UnreadableSourceError, match="is no readable PDF file"):
        pdf_text(damage(pdf("A page.")))


def test_a_page_that_can_not_be_read_does_not_lose_the_others(pdf):
    def break_page(writer):
        writer.pages[0][NameObject("/Contents")][NameObject("/Filter")] = NameObject("/NoSuchFilter")

    broken = changed(with_content(pdf("Lost.", "Kept."), 0, b"BT ET"), break_page)
    assert pdf_text(broken) == "\fKept."
    with pytest.raises(UnreadableSourceError, match="is no readable PDF file"):
        pdf_text(changed(with_content(pdf("Lost."), 0, b"BT ET"), break_page))


def test_a_password_is_needed_only_where_reading_is_forbidden(pdf):
    with pytest.raises(UnreadableSourceError, match="locked with a password"):
        pdf_text(pdf("Secret.", owner_password="o", user_password="u"))
    assert pdf_text(pdf("Printing is forbidden.", owner_password="o")) == "Printing is forbidden."


def test_too_many_pages_are_refused_before_any_is_read(pdf, monkeypatch):
    def change(writer):
        for _ in range(MAX_PDF_PAGES):
            writer.add_page(writer.pages[0])

    data = changed(pdf("Again."), change)
    monkeypatch.setattr(pypdf.PageObject, "extract_text", None)
    with pytest.raises(UnreadableSourceError, match=r"of 2,001 pages, and the limit is 2,000"):
        pdf_text(data)


def test_no_pages(pdf):
    with pytest.raises(UnreadableSourceError, match="without pages"):
        pdf_text(changed(pdf("Gone."), lambda writer: writer.remove_page(0)))


def test_work_is_limited_however_it_is_nested(pdf, monkeypatch):
    """Each form draws the one below it ten times: a hundred operators become ten million."""

    def change(writer):
        page = writer.pages[0]
        below = None
        for level in range(7):
            form = DecodedStreamObject()
            form.update({NameObject("/Type"): NameObject("/XObject"), NameObject("/Subtype"): NameObject("/Form")})
            resources = pypdf.generic.DictionaryObject()
            if below is not None:
                resources[NameObject("/XObject")] = pypdf.generic.DictionaryObject({NameObject("/F"): below})
            form[NameObject("/Resources")] = resources
            form.set_data(b"BT (x) Tj ET " + b"/F Do " * 10 * (level > 0))
            below = writer._add_object(form)
        page[NameObject("/Resources")][NameObject("/XObject")] = pypdf.generic.DictionaryObject(
            {NameObject("/F"): below}
        )
        stream = DecodedStreamObject()
        stream.set_data(b"/F Do")
        page[NameObject("/Contents")] = stream

    monkeypatch.setattr(pdf_module, "_MAX_OPERATORS", 1000)
    with pytest.raises(UnreadableSourceError, match="takes too much work"):
        pdf_text(changed(pdf("Nested."), change))


def test_text_is_limited(pdf, monkeypatch):
    monkeypatch.setattr(pdf_module, "_MAX_CHARACTERS", 20)
    assert pdf_text(pdf("Few words.", "And few.")) == "Few words.\fAnd few."
    with pytest.raises(UnreadableSourceError, match="takes too much work"):
        pdf_text(pdf("Few words.", "And some words more."))

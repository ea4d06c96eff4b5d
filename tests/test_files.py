import io
import random
import zipfile

import docx
import pytest
from haystack.dataclasses import ByteStream

from rom_haystack.files import (
    DOCX,
    HTML,
    MARKDOWN,
    TEXT,
    SourceReader,
    UnreadableSourceError,
    decode,
    find_title,
    readable_stem,
    whole_characters,
)

GERMAN = "Über die Brücke gehen viele Leute. Größe ist nicht alles."
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. Москва является столицей России."


def read(data, mime_type):
    return SourceReader().run(sources=[ByteStream(data, mime_type=mime_type)])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_decodes_western_text(encoding):
    assert decode(GERMAN.encode(encoding)) == GERMAN


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1251"])
def test_decodes_cyrillic_text(encoding):
    assert decode(RUSSIAN.encode(encoding)) == RUSSIAN


def test_decodes_as_declared_unless_that_is_wrong():
    assert decode(GERMAN.encode("cp1250"), declared="cp1250") == GERMAN
    assert decode(GERMAN.encode("utf-8"), declared="no-such-encoding") == GERMAN
    assert decode(GERMAN.encode("utf-8"), declared="undefined") == GERMAN  # a codec of Python's that always fails


def test_a_bad_byte_after_a_byte_order_mark_is_replaced():
    assert decode(RUSSIAN.encode("utf-8-sig") + b"\xd0") == RUSSIAN + "\ufffd"


@pytest.mark.parametrize("declared", ["utf-16", "UTF-16LE", "utf16", "utf_32_be"])
def test_a_readable_tag_can_not_declare_wide_characters(declared):
    page = f"<html><meta charset='{declared}'><title>Größe</title><p>{GERMAN}</html>" + " " * 3
    for text in (page, page + " "):  # an odd and an even number of bytes
        stream = read(text.encode(), HTML)["streams"][0]
        assert stream.meta["title"] == "Größe"
        assert stream.data.decode() == text


def test_line_ends_become_newlines():
    assert decode(b"a\r\nb\rc\n") == "a\nb\nc\n"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes(range(32)) * 20, b"\xff\xfe\x00"])
def test_refuses_binary_data(data):
    with pytest.raises(UnreadableSourceError, match="binary"):
        decode(data)


def test_surrogates_are_joined_or_replaced():
    assert whole_characters("a\ud83d\ude00b") == "a\U0001f600b"
    assert whole_characters("a\ud83db") == "a\ufffdb"


@pytest.mark.parametrize(
    ("text", "mime_type", "title"),
    [
        ("Intro\n\n## The *second* level #\n\n# First", MARKDOWN, "The second level"),
        ("Setext\n======\ntext", MARKDOWN, "Setext"),
        ("```\n# comment\n```\n\n# Real", MARKDOWN, "Real"),
        ('---\nauthor: me\ntitle: "From the front"\n---\n\n# Heading', MARKDOWN, "From the front"),
        ("---\nauthor: me\n---\n\n# Heading", MARKDOWN, "Heading"),
        ("---\n\ntitle: between rules\n\n---\n\n# Heading", MARKDOWN, "Heading"),
        ("no heading", MARKDOWN, None),
        ("<html><TITLE lang='en'>Cats &amp;\n dogs</TITLE>", HTML, "Cats & dogs"),
        ("<html><title> </title>", HTML, None),
        ("# not Markdown", TEXT, None),
    ],
)
def test_finds_titles(text, mime_type, title):
    assert find_title(text, mime_type) == title


def test_file_names_become_titles():
    assert readable_stem("docs/annual_report-2024.v2.pdf") == "annual report 2024.v2"
    assert readable_stem("_.txt") == "_"


def test_reader_reports_what_it_skips_and_reads_the_rest(tmp_path):
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / "table.csv").write_text("a,b")
    missing = tmp_path / "missing.txt"
    sources = [tmp_path / "good.txt", str(tmp_path / "empty.md"), tmp_path / "table.csv", missing, tmp_path]
    sources.append(ByteStream(b"%PDF-1.4 broken", mime_type="application/pdf"))

    result = SourceReader().run(sources=sources)

    assert [stream.data for stream in result["streams"]] == [b"text"]
    assert {name.rpartition("/")[2]: reason.split(" (")[0] for name, reason in result["skipped"].items()} == {
        "empty.md": "is empty",
        "table.csv": "files of this kind",
        "missing.txt": "is not there",
        tmp_path.name: "is no file",
        "source 6": "is no readable PDF file",
    }


def test_front_matter_gives_the_title_and_is_no_text():
    stream = read(b"---\ntitle: From the front\ntags: [a]\n---\n\n# Heading\n", MARKDOWN)["streams"][0]
    assert stream.meta["title"] == "From the front"
    assert stream.data == b"\n# Heading\n"
    text = b"---\n\nText between rules: kept.\n\n---\n"
    assert read(text, MARKDOWN)["streams"][0].data == text


def test_damaged_word_files_are_skipped():
    document = docx.Document()
    document.add_paragraph(GERMAN)
    file = io.BytesIO()
    document.save(file)
    flips = random.Random(0)
    reasons = []
    for _ in range(200):
        data = bytearray(file.getvalue())
        data[flips.randrange(len(data))] ^= 1 << flips.randrange(8)
        reasons += read(bytes(data), DOCX)["skipped"].values()
    assert len(reasons) > 100
    assert set(reasons) == {"is no readable Word file (.docx)", "is a damaged Word file (.docx)"}


def test_reader_leaves_its_input_alone():
    source = ByteStream(b"text", meta={"author": "me"}, mime_type=TEXT)
    stream = SourceReader().run(sources=[source], meta={"title": "Given"})["streams"][0]
    assert source.meta == {"author": "me"}
    assert (stream.meta["author"], stream.meta["title"]) == ("me", "Given")


def zipped(parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def word_file(text="Text."):
    document = docx.Document()
    document.add_paragraph(text)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("part", "size", "reason"),
    [
        ("word/document.xml", 26, "with a text of 26 MB, and the limit is 25 MB"),
        ("word/media/image.png", 101, "that unpacks to 101 MB, and the limit is 100 MB"),
    ],
)
def test_word_files_that_unpack_to_too_much_are_refused_unread(part, size, reason, monkeypatch):
    bomb = zipped({"word/document.xml": b"", part: bytes(size * 1024 * 1024)})
    assert len(bomb) < 200_000
    monkeypatch.setattr(zipfile.ZipFile, "testzip", None)
    assert read(bomb, DOCX)["skipped"] == {"source 1": f"is a Word file (.docx) {reason}; split it into smaller files"}


def test_html_that_is_too_large_is_refused():
    page = b"<p>text</p>" * 2_500_000
    assert "is an HTML page of 26 MB, and the limit is 25 MB" in read(page, HTML)["skipped"]["source 1"]


def test_word_files_that_lie_about_their_size_are_damaged():
    data = zipped({"word/document.xml": b"\0" * 1_000_000})
    lying = data.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != data
    assert "Word file" in read(lying, DOCX)["skipped"]["source 1"]
    assert read(word_file(), DOCX)["skipped"] == {}


def test_html_nested_too_deep_is_refused():
    for page in ("<div>" * 2001, "<p><B class='x'>" * 2001, "<i></i>" * 10 + "<i>" * 2001):
        assert "nested more than 2,000 deep" in read(page.encode(), HTML)["skipped"]["source 1"]


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 1000 + "text" + "</div>" * 1000,
        "<div>text</div>" * 3000,
        "<p>an open paragraph<br>" * 3000,
        "<script>" + "if(a<b)c();" * 3000 + "</script><p>text",
        "<p>text<script>" + "if(a<b)c();" * 3000,
        "<p>text<!--" + "<b>" * 3000 + "-->",
        "<p>text<!--" + "<b>" * 3000,
    ],
)
def test_html_that_is_only_long_is_read(page):
    assert read(page.encode(), HTML)["skipped"] == {}

import pytest
from haystack.dataclasses import ByteStream

from rom_haystack.files import (
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_decodes_western_text(encoding):
    assert decode(GERMAN.encode(encoding)) == GERMAN


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1251"])
def test_decodes_cyrillic_text(encoding):
    assert decode(RUSSIAN.encode(encoding)) == RUSSIAN


def test_decodes_as_declared_unless_that_is_wrong():
    assert decode(GERMAN.encode("cp1250"), declared="cp1250") == GERMAN
    assert decode(GERMAN.encode("utf-8"), declared="no-such-encoding") == GERMAN


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


def test_reader_leaves_its_input_alone():
    source = ByteStream(b"text", meta={"author": "me"}, mime_type=TEXT)
    stream = SourceReader().run(sources=[source], meta={"title": "Given"})["streams"][0]
    assert source.meta == {"author": "me"}
    assert (stream.meta["author"], stream.meta["title"]) == ("me", "Given")

"""What is taken of files that are handed in."""

from __future__ import annotations

import unicodedata

import pytest

from demo.core import uploads as uploads_module
from demo.core.uploads import (
    LIMITS,
    MAX_COLLECTION_FILES,
    MAX_FILES,
    Upload,
    UploadError,
    check_upload,
    check_uploads,
    pasted,
    safe_name,
)
from rom_haystack.folders import MAX_FILE_SIZE


@pytest.mark.parametrize(
    "name",
    [
        "plain.txt",
        "Größe über alles.MD",
        "鳥.pdf",
        "عربي.txt",
        "<img src=x onerror=alert(1)>.md",
        "$\\alpha$".replace("\\", "") + " :red[x] *b* `c`.txt",
        "a..b...txt",
        "100% (copy) [1] & more, really!.docx",
        "nullable.txt",
        "console.md",
        "x" * 146 + ".txt",
        "%2e%2e%2fa.txt",
        "~root.txt",
        "-rf.txt",
        "👩‍👩‍👧.txt",
    ],
)
def test_names_of_people_are_kept(name):
    assert safe_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "no name"),
        ("  ", "no name"),
        ("../secret.txt", "path"),
        ("/etc/passwd.txt", "path"),
        ("..\\secret.txt", "path"),
        ("C:\\secret.txt", "path"),
        ("C:secret.txt", "path"),
        ("a/b.txt", "path"),
        ("a\0.txt", "control"),
        ("a\nb.txt", "control"),
        ("a\x1b[31m.txt", "control"),
        ("a\x9b.txt", "control"),
        ("a\u2028b.txt", "control"),
        ("a\ud800.txt", "control"),
        ("exe\u202etxt.md", "direction"),
        ("exe\u2067.md", "direction"),
        (".hidden.txt", "dot"),
        ("..", "dot"),
        ("CON.txt", "Windows"),
        ("nul.md", "Windows"),
        ("Lpt1 .txt", "Windows"),
        ("COM¹.a.txt", "Windows"),
        ("x" * 300 + ".txt", "304 characters; shorten it to 150"),
        ("鳥" * 100 + ".txt", "shorten"),
    ],
)
def test_names_with_tricks_are_refused(name, reason):
    with pytest.raises(UploadError, match=reason):
        safe_name(name)


def test_a_name_is_the_same_wherever_it_was_typed():
    decomposed = unicodedata.normalize("NFD", "Größe.txt")
    assert decomposed != "Größe.txt"
    assert safe_name(f" {decomposed} ") == "Größe.txt"


@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        (Upload("a.csv", b"x"), r"kind \(.csv\) that is not read; the kinds are txt, md, html, pdf, docx"),
        (Upload("a", b"x"), "without ending"),
        (Upload("a.txt", b""), "is empty"),
        (Upload("a.txt", bytes(MAX_FILE_SIZE + 1)), "is too large: 50 MB, and the limit is 50 MB"),
    ],
)
def test_files_that_can_not_be_read_anyway(upload, reason):
    with pytest.raises(UploadError, match=reason):
        check_upload(upload)
    assert check_upload(Upload("a.txt", b"x")) == "a.txt"


def test_limits_are_said_in_full():
    for part in ("200 files", "50 MB each", "200 MB together", "2,000 files", "txt, md, html, pdf, docx"):
        assert part in LIMITS


def test_one_bad_file_does_not_lose_the_others():
    taken, failed = check_uploads([Upload("a.txt", b"a"), Upload("../b.txt", b"b"), Upload("c.txt", b"c")], {})
    assert taken == {"a.txt": b"a", "c.txt": b"c"}
    assert [name for name, _ in failed] == ["../b.txt"]


def test_names_must_differ():
    uploads = [Upload("a.txt", b"1"), Upload("A.TXT", b"2"), Upload("a.txt", b"3"), Upload("b.txt", b"4")]
    taken, failed = check_uploads(uploads, {"B.txt": 1, "a.txt": 1})
    assert taken == {"a.txt": b"1"}
    assert [(name, reason.split(" ")[0]) for name, reason in failed] == [
        ("A.TXT", "has"),
        ("a.txt", "has"),
        ("b.txt", "differs"),
    ]


def test_only_so_many_files_at_a_time():
    taken, failed = check_uploads([Upload(f"{n}.txt", b"x") for n in range(MAX_FILES + 2)], {})
    assert len(taken) == MAX_FILES
    assert [name for name, _ in failed] == ["200.txt", "201.txt"]
    assert "200 files that are taken at a time" in failed[0][1]


def test_only_so_many_bytes_at_a_time(monkeypatch):
    monkeypatch.setattr(uploads_module, "MAX_BYTES", 10)
    taken, failed = check_uploads([Upload("a.txt", bytes(8)), Upload("b.txt", bytes(8)), Upload("c.txt", bytes(2))], {})
    assert (list(taken), [name for name, _ in failed]) == (["a.txt", "c.txt"], ["b.txt"])


def test_a_collection_holds_only_so_much(monkeypatch):
    present = {f"{n}.txt": 1 for n in range(MAX_COLLECTION_FILES)}
    taken, failed = check_uploads([Upload("new.txt", b"x"), Upload("5.txt", b"x")], present)
    assert (list(taken), [name for name, _ in failed]) == (["5.txt"], ["new.txt"])
    assert "2,000 files that a collection holds" in failed[0][1]
    monkeypatch.setattr(uploads_module, "MAX_COLLECTION_BYTES", 10)
    taken, failed = check_uploads([Upload("a.txt", bytes(6)), Upload("b.txt", bytes(6))], {"a.txt": 9, "c.txt": 3})
    assert (list(taken), [name for name, _ in failed]) == (["a.txt"], ["b.txt"])


@pytest.mark.parametrize(
    ("title", "text", "name"),
    [
        ("Minutes of May", "text", "Minutes of May.txt"),
        ("", "The owl hunts\nat night.", "The owl hunts at night.txt"),
        ("../../etc: a<b> \\ *", "text", "etc a b.txt"),
        ("...", "text", "Pasted text.txt"),
        ("word " * 100, "text", ("word " * 16).strip() + ".txt"),
        ("x" * 500, "text", "x" * 80 + ".txt"),
    ],
)
def test_pasted_texts_get_a_name(title, text, name):
    upload = pasted(title, text)
    assert (upload.name, upload.data) == (name, text.encode())
    assert check_upload(upload) == name


def test_nothing_was_pasted():
    with pytest.raises(UploadError, match="no text"):
        pasted("Title", " \n")

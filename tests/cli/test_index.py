"""`rom index`: its reports, repairs, and folders with nothing to index."""

import json

from rom_haystack.cli import MISTAKE, NO_ANSWER, NOTHING_INDEXED


def test_index_reports(rom, docs, tmp_path):
    (docs / "junk [x].txt").write_bytes(b"\0\1\2")
    first = rom("index", docs, "--index", tmp_path / "place")
    second = json.loads(rom("index", docs, "--index", tmp_path / "place", "--json").stdout)
    assert first.exit_code == 0
    assert "Files: 2 added, 1 skipped. Passages: 2." in first.stdout
    assert "Skipped junk [x].txt: looks like binary data, not text." in first.stderr
    assert second["path"] == str(tmp_path / "place")
    assert second["unchanged"] == ["birds.md", "guide.pdf"]
    assert second["skipped"] == [{"file": "junk [x].txt", "reason": "looks like binary data, not text"}]
    assert (second["added"], second["replaced"], second["removed"], second["passages"]) == ([], [], [], 2)


def test_damage_is_explained_and_repaired(rom, docs, home):
    assert rom("index", docs).exit_code == 0
    (vectors,) = home.glob("*/store/vectors-1.bin")
    vectors.write_bytes(b"nothing of a store")
    for command in (("ask", "Who?", "--docs"), ("index",)):
        result = rom(*command, docs)
        assert result.exit_code == MISTAKE
        assert f"{vectors} is damaged" in result.stderr
        assert "`rom index FOLDER --repair`" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    result = rom("index", docs, "--repair")
    assert result.exit_code == 0
    found, kept = result.stderr.splitlines()
    assert found.startswith(f"Found damage: {vectors} is damaged")
    assert kept.startswith(f"Kept 0 passages. The damaged files are in {vectors.parents[1] / 'store.damaged-1'}; ")
    assert "Files: 2 replaced. Passages: 2." in result.stdout
    assert rom("ask", "Who?", "--docs", docs).exit_code in {0, NO_ANSWER}
    assert rom("index", docs, "--repair").stderr == "Found no damage.\n"


def test_a_repair_is_reported_as_json(rom, docs, home):
    assert json.loads(rom("index", docs, "--json").stdout)["repaired"] is None
    whole = json.loads(rom("index", docs, "--repair", "--json").stdout)
    assert whole["repaired"] == {"problems": [], "kept": 2, "damaged_folder": None}
    (database,) = home.glob("*/store/documents.sqlite")
    database.write_bytes(b"nothing of a store" * 1000)
    mended = json.loads(rom("index", docs, "--repair", "--json").stdout)
    assert mended["repaired"]["kept"] == 0
    assert str(database) in mended["repaired"]["problems"][0]
    assert mended["repaired"]["damaged_folder"] == str(database.parents[1] / "store.damaged-1")
    assert (mended["rebuilt"], mended["added"]) == ("the index was damaged", ["birds.md", "guide.pdf"])


def test_a_folder_without_readable_files(rom, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "bad.docx").write_bytes(b"bad")
    result = rom("index", empty)
    assert result.exit_code == NOTHING_INDEXED
    assert "Skipped bad.docx: is no readable Word file" in result.stderr
    assert "Nothing to index" in result.stderr
    report = json.loads(rom("ask", "Who?", "--docs", empty, "--json").stdout)
    assert report["skipped"][0]["file"] == "bad.docx"

"""The checks of the fault test notice every way in which a store can break its word."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.faults.checks import ViolationError, check_database, check_search, contents_of, strays
from benchmarks.faults.contents import Contents, Version, document
from benchmarks.faults.operations import Delete, DeleteAll, DeleteGroup, MarkGroup, Write, draw_operations
from benchmarks.faults.worker import open_store
from benchmarks.store_faults import app
from rom_haystack.document_stores.settings import DATABASE

SEED = 5
CONTENTS: Contents = {number: Version(number % 3, "mark1" if number < 5 else None) for number in range(40)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with just what it must have."""
    with open_store(tmp_path / "store") as store:
        store.write_documents([document(SEED, number, version) for number, version in CONTENTS.items()])
    return tmp_path / "store"


def check(folder: Path, *candidates: Contents) -> None:
    with open_store(folder) as store:
        contents = contents_of(store, candidates or [CONTENTS], SEED)
        check_search(store, contents, SEED, np.random.default_rng(SEED), 40)
    check_database(folder / DATABASE)


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_store_that_holds_what_it_must_passes(folder: Path) -> None:
    check(folder)
    check(folder, {}, CONTENTS)


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        ({**CONTENTS, 77: Version(0)}, r"1 documents lost \(77…\)"),
        ({n: version for n, version in CONTENTS.items() if n != 7}, r"must not be there \(7…\)"),
        ({**CONTENTS, 7: Version(8)}, r"of another version \(7…\)"),
        ({**CONTENTS, 7: CONTENTS[7]._replace(mark="mark2")}, r"of another version \(7…\)"),
    ],
)
def test_lost_surplus_and_outdated_documents_are_noticed(folder: Path, expected: Contents, complaint: str) -> None:
    with pytest.raises(ViolationError, match=complaint):
        check(folder, expected)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE documents SET content = content || '!' WHERE slot = 7", "content of document-7 is"),
        ("UPDATE documents SET meta = json_set(meta, '$.more', 1) WHERE slot = 7", "meta of document-7 is"),
        ("UPDATE documents SET norm = norm * 1.01 WHERE slot = 7", "the embedding of document-7 is not"),
        ("UPDATE documents SET norm = NULL WHERE slot = 7", "document-7 lost its embedding"),
        ("UPDATE state SET documents = 41", "count_documents.. is 41"),
        ("UPDATE state SET vacancies = vacancies + 1", "the counters"),
        ("INSERT INTO vacant(slot) VALUES (7)", "the counters"),
        ("INSERT INTO keywords(keywords) VALUES ('delete-all')", "bm25 search for .* finds"),
        ("INSERT INTO keywords(rowid, text) VALUES (99, 'amber')", "the keyword index disagrees"),
    ],
)
def test_damage_in_the_database_is_noticed(folder: Path, statement: str, complaint: str) -> None:
    change(folder, statement)
    with pytest.raises(ViolationError, match=complaint):
        check(folder)


def test_a_document_that_embedding_search_does_not_find_is_noticed(folder: Path) -> None:
    change(folder, "INSERT INTO vacant(slot) VALUES (7)", "UPDATE state SET vacancies = vacancies + 1")
    with pytest.raises(ViolationError, match="embedding search for document-7 finds"):
        check(folder)


def test_files_that_nothing_needs_are_noticed(folder: Path) -> None:
    needed = check_database(folder / DATABASE)
    assert strays(folder, needed) == []
    (folder / "index-1-40.faiss.new").touch()
    assert strays(folder, needed) == ["index-1-40.faiss.new"]


def test_operations_say_what_they_leave() -> None:
    there: Contents = {1: Version(0), 2: Version(0)}
    assert Write(((2, 1), (3, 1)), "fail").expected(there) == there
    assert Write(((3, 1), (3, 2)), "fail").expected(there) == there
    assert Write(((3, 1),), "fail").expected(there) == {**there, 3: Version(1)}
    assert Write(((2, 1), (3, 1), (3, 2)), "skip").expected(there) == {**there, 3: Version(1)}
    assert Write(((2, 1), (3, 1), (3, 2)), "overwrite").expected(there) == {1: Version(0), 2: Version(1), 3: Version(2)}
    assert Delete((2, 9)).expected(there) == {1: Version(0)}
    assert DeleteGroup(2).expected(there) == {1: Version(0)}
    assert MarkGroup(2, "mark1").expected(there) == {1: Version(0), 2: Version(0, "mark1")}
    assert DeleteAll().expected(there) == {}


def test_what_is_drawn_is_a_function_of_the_seed() -> None:
    drawn = [
        list(draw_operations(np.random.default_rng(3), {}, 30, first_revision=0, most_documents=200)) for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert len({type(operation) for operation in drawn[0]}) >= 5
    assert document(3, 1, Version(0)) == document(3, 1, Version(0)) != document(3, 1, Version(1))


def test_the_command_ends_with_0_where_nothing_is_violated(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--rounds", "2", "--documents", "200", "--work", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "2 rounds, no violation" in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_1_on_a_violation_and_keeps_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.faults.rounds.contents_of", lambda *_: 1 / 0)
    result = CliRunner().invoke(app, ["--rounds", "2", "--seed", "4", "--work", str(tmp_path)])
    assert result.exit_code == 1
    assert "round 0 with --seed 4" in result.output
    assert "ZeroDivisionError" in result.output
    assert len(list(tmp_path.glob("store-faults-*/store/documents.sqlite"))) == 1

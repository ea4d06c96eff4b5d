"""The document-store benchmark on 300 documents, within this process, and its verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.document_store import EXPECTATIONS, app
from benchmarks.exact import TOLERANCE, is_exact, nearest, recall
from benchmarks.expectations import ExpectationError, read_expectations
from benchmarks.figures import figure_at
from benchmarks.measures import disk_bytes, latency_figures, memory
from benchmarks.stores.growth import curve
from benchmarks.stores.prepare import load_texts, synthetic_workload
from benchmarks.stores.quality import answer_recall
from benchmarks.stores.runner import measure
from benchmarks.stores.subjects import load_subject
from benchmarks.stores.synthetic import ClusteredVectors, texts
from benchmarks.stores.worker import run_job
from benchmarks.stores.workload import Workload
from training.data.dataset import Passage, Question

SIZE, DIM, QUERIES = 300, 32, 12


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("workload")
    return synthetic_workload(folder, SIZE, DIM, load_texts(None, QUERIES, 1), QUERIES, 1)


@pytest.fixture(scope="module")
def figures(workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return measure(
        workload,
        ["sqlite_faiss", "in_memory"],
        work=tmp_path_factory.mktemp("stores"),
        rounds=2,
        batch_size=128,
        report=lambda line: None,
        run=run_job,
    )


def test_small_stores_find_everything(figures):
    assert figures["in_memory"]["search_20"]["recall"] == 1
    assert figures["sqlite_faiss"]["search_20"]["recall"] > 0.99  # float16 may swap the 20th and the 21st
    assert {figures[store]["filtered"]["exact_share"] for store in figures} == {1}


def test_every_figure_is_there_and_above_zero(figures):
    ours = figures["sqlite_faiss"]
    assert {kind: ours[kind]["count"] for kind in ("search", "search_20", "filtered", "keywords")} == dict.fromkeys(
        ("search", "search_20", "filtered", "keywords"), 2 * QUERIES
    )
    for keys in (
        "write.documents_per_s",
        "write.documents_per_s_elapsed",
        "write.slowest_batch_s",
        "write.finish_s",
        "opening.constructor_s",
        "opening.ready_s",
        "opening.cold_ready_s",
        "memory.imported",
        "memory.peak",
        "search.p50_ms",
    ):
        assert figure_at(ours, keys) > 0, keys
    assert ours["write"]["documents_per_s"] > ours["write"]["documents_per_s_elapsed"]
    assert ours["disk_bytes_per_document"] > 2 * DIM  # two bytes per value of a vector


def test_expectations_name_figures_that_exist(figures):
    results = {
        "synthetic": {size: {"sqlite_faiss": figures["sqlite_faiss"]} for size in ("20000", "100000", "1000000")},
        "passages": {
            "stores": figures,
            "answer_recall": {name: {"recall_at_20": 9} for name in ("dense", "dense_exact", "hybrid", "keywords")},
        },
    }
    in_a_process_of_its_own = {"memory": {"store": 1}}  # within this process it may take no further memory
    results["synthetic"]["20000"]["faiss"] = figures["in_memory"] | in_a_process_of_its_own
    assert {e.name for e in read_expectations(EXPECTATIONS) if e.verdict(results) == "not measured"} == set()


def test_stores_are_left_out_above_their_largest_size(workload, tmp_path, monkeypatch):
    monkeypatch.setattr(load_subject("in_memory"), "largest", SIZE - 1)
    options = {"work": tmp_path, "rounds": 1, "batch_size": 100, "report": lambda line: None, "run": run_job}
    assert measure(workload, ["in_memory"], **options) == {}


def test_unknown_store_is_named():
    with pytest.raises(ValueError, match="no store 'milvus'"):
        load_subject("milvus")


def test_workload_documents_match_its_vectors(workload):
    batches = list(workload.batches(128))
    documents = [document for batch in batches for document in batch]
    assert [len(batch) for batch in batches] == [128, 128, 44]
    assert len({document.id for document in documents}) == SIZE
    assert np.array_equal(np.array([document.embedding for document in documents], dtype=np.float32), workload.vectors)
    assert all(type(document.embedding[0]) is float for document in documents)
    assert 300 < np.mean([len(document.content) for document in documents]) < 700


def test_workload_is_reused_only_if_its_settings_are_the_same(tmp_path):
    sentences = load_texts(None, 3, 1)
    first = synthetic_workload(tmp_path, 20, 8, sentences, 3, 1)
    written = (first.folder / "vectors.npy").stat().st_mtime_ns
    assert synthetic_workload(tmp_path, 20, 8, sentences, 3, 1).size == 20
    assert (first.folder / "vectors.npy").stat().st_mtime_ns == written
    assert synthetic_workload(tmp_path, 21, 8, sentences, 3, 1).size == 21


def test_clustered_vectors_are_unit_clustered_and_seeded():
    vectors = np.concatenate(list(ClusteredVectors(2000, 64, 5).blocks()))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, np.concatenate(list(ClusteredVectors(2000, 64, 5).blocks())))
    assert not np.array_equal(vectors, np.concatenate(list(ClusteredVectors(2000, 64, 6).blocks())))
    similarities = np.sort(vectors @ vectors.T, axis=1)
    assert similarities[:, -2].mean() > 0.5 > similarities[:, 1000].mean() + 0.3
    queries = ClusteredVectors(2000, 64, 5).queries(50)
    assert 0.5 < (queries @ vectors.T).max(axis=1).mean() < 0.9


def test_texts_do_not_depend_on_how_many_there_are():
    assert (
        list(texts(["One sentence.", "Another sentence."], 3, 1))
        == list(texts(["One sentence.", "Another sentence."], 5, 1))[:3]
    )


def test_nearest_over_several_blocks_is_exact(monkeypatch):
    monkeypatch.setattr("benchmarks.exact._BLOCK", 7)
    rng = np.random.default_rng(2)
    vectors, queries = rng.standard_normal((50, 4), np.float32), rng.standard_normal((3, 4), np.float32)
    assert np.array_equal(nearest(vectors, queries, 10), np.argsort(-(queries @ vectors.T), axis=1)[:, :10])


def test_recall_counts_shared_rows():
    assert recall([[1, 2], [5, 6]], np.array([[2, 3], [6, 5]])) == 0.75


@pytest.mark.parametrize(
    ("found", "exact"),
    [
        ([4, 2], True),
        ([2, 4], False),  # in the wrong order
        ([4, 9], False),  # not a candidate
        ([4], False),  # one is missing
        ([4, 4], False),
        ([4, 7], False),  # not the second best
    ],
)
def test_filtered_results_must_be_exactly_the_best(found, exact):
    candidates, scores = np.array([2, 4, 7]), np.array([0.5, 0.9, 0.5 - 2 * TOLERANCE], dtype=np.float32)
    assert is_exact(found, scores, candidates, 2) is exact


def test_ties_may_come_in_any_order():
    candidates, scores = np.array([2, 4]), np.array([0.5, 0.5 + TOLERANCE / 2], dtype=np.float32)
    assert is_exact([2, 4], scores, candidates, 2)


def test_memory_counts_what_is_allocated():
    before = memory()
    held = np.ones(8_000_000)
    after = memory()
    assert after["resident"] - before["resident"] > 0.9 * held.nbytes
    assert after["anonymous"] <= after["resident"] <= after["peak"]


def test_disk_bytes_are_blocks_rather_than_lengths(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10_000_000)
    assert 1 < disk_bytes(tmp_path) < 100_000


def test_latency_figures():
    assert latency_figures([0.001, 0.002, 0.006]) == pytest.approx(
        {
            "p50_ms": 2,
            "p95_ms": 5.6,
            "p99_ms": 5.92,
            "max_ms": 6,
            "mean_ms": 3,
            "count": 3,
        }
    )


def test_answer_recall_of_each_search(tmp_path):
    passages = [Passage("a", "", "Paris is the capital of France."), Passage("b", "", "Rome lies on the Tiber.")]
    questions = [Question("q", "What is the capital of France?", ("Paris",), "a")]
    vectors = np.eye(2, 4, dtype=np.float32)
    found = answer_recall(tmp_path, passages, vectors, questions, vectors[1:])
    assert (
        found["dense"]
        == found["dense_exact"]
        == {"recall_at_1": 0, "recall_at_5": 100, "recall_at_20": 100, "questions": 1}
    )
    assert found["keywords"]["recall_at_1"] == 100
    assert found["hybrid"]["recall_at_5"] == 100


def test_plot_draws_a_line_per_store_over_the_sizes_it_was_measured_at(figures, tmp_path):
    synthetic = {"300": figures, "3000": {"sqlite_faiss": figures["sqlite_faiss"]}}
    output = tmp_path / "growth.svg"
    (tmp_path / "results.json").write_text(json.dumps({"synthetic": synthetic}), encoding="utf-8")
    done = CliRunner().invoke(app, ["plot", str(tmp_path / "results.json"), "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert output.read_text(encoding="utf-8").startswith("<?xml")
    assert curve({"synthetic": synthetic}, "sqlite_faiss", "search_20.count", 2) == {300: QUERIES, 3000: QUERIES}
    assert list(curve({"synthetic": synthetic}, "in_memory", "search_20.count", 2)) == [300]


def test_plot_without_sizes_says_so(tmp_path):
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    done = CliRunner().invoke(app, ["plot", str(tmp_path / "results.json"), "--output", str(tmp_path / "growth.svg")])
    assert done.exit_code == 2
    assert "no synthetic sizes" in done.output


@pytest.fixture
def expectations(tmp_path: Path) -> Path:
    file = tmp_path / "expectations.yaml"
    file.write_text(
        "- {name: fast, figure: a.ms, at_most: 10, unit: ms}\n"
        "- {name: faster, figure: a.ms, relative_to: b.ms, at_most: 0.5}\n"
        "- {name: right, figure: a.recall, at_least: 0.9}\n",
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ({"a": {"ms": 10, "recall": 0.9}, "b": {"ms": 20}}, ["met", "met", "met"]),
        ({"a": {"ms": 10.1, "recall": 0.89}, "b": {"ms": 20}}, ["missed", "missed", "missed"]),
        ({"a": {"ms": 1}}, ["met", "not measured", "not measured"]),
    ],
)
def test_check(tmp_path, expectations, results, verdicts):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results), encoding="utf-8")
    assert [expected.verdict(results) for expected in read_expectations(expectations)] == verdicts
    done = CliRunner().invoke(app, ["check", str(file), "--expectations", str(expectations)])
    assert done.exit_code == (0 if set(verdicts) == {"met"} else 1), done.output
    for verdict in set(verdicts):
        assert done.output.count(verdict) >= verdicts.count(verdict)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "must hold a list"),
        ("- {figure: a}", "entry 1 must be a mapping with a name"),
        ("- {name: x, figure: a, at_most: 1, at_least: 0}", "must have one number"),
        ("- {name: x, figure: a, at_most: fast}", "must have one number"),
        ("- {name: x, figure: a, at_most: 1, below: 2}", "unknown fields: below"),
        ("- [", "can't be read"),
    ],
)
def test_mistakes_in_expectations_are_named(tmp_path, text, message):
    file = tmp_path / "expectations.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ExpectationError, match=message):
        read_expectations(file)

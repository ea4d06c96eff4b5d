"""Data on disk is what it would be in memory: the same passages, questions, errors and batches."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training.data import lookup, stored, stores
from training.data.formats import read_data, read_together
from training.data.numbered import Chosen, Lazy, numbered, those
from training.errors import DataError
from training.tasks import TASKS
from training.trainer import build_tasks, train

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

SENTENCES = ("The lake {} lies high.", "Ships on the lake {} carry salt.", "🌙 \ud83d Été\n\\ of {}.")
WINDOWED = {"max_length": 48, "stride": 12, "max_query_length": 12}
#: Recipes' tasks that ask for passages in every way.
VARIANTS = [
    ("reading", {**WINDOWED, "negative_rate": 0.5}),
    ("retrieval", {"positives": 2, "hard_negatives": 1}),
    ("retrieval", {"group_by_article": True, "batch_size": 4}),
    ("retrieval", {"contrast": "batch", "anchor_weight": 0, "group_by_length": True}),
    ("masked_lm", {"max_length": 16}),
    ("inverse_cloze", {}),
    ("recurring_spans", {**WINDOWED, "negative_rate": 0.5}),
    ("anchor", {"batch_size": 4}),
    ("reader_distillation", {**WINDOWED, "candidates": 3}),
    ("span_distillation", {**WINDOWED, "negative_rate": 0.5}),
]


def passage_text(number):
    return " ".join(SENTENCES).format(number, number, number)


@pytest.fixture
def large(monkeypatch):
    """Everything counts as too large for memory."""
    monkeypatch.setattr(stores, "LARGE", 0)


@pytest.fixture
def store(tmp_path, large):
    return tmp_path / "stores"


def write_jsonl(folder, suffix=""):
    folder.mkdir()
    passages = [{"id": f"p{n}", "title": ("", "A", "B")[n % 3], "text": passage_text(n)} for n in range(12)]
    passages.append({**passages[4], "title": "C"})  # the later one counts, in the earlier one's place
    questions = [
        {
            "id": f"q{n}",
            "question": f"Which lake is {n}?",
            "answers": [{"text": str(n), "start": 9}, {"text": f"lake {n}"}, {"text": "salt"}][: n % 4],
            "passage_id": f"p{n}",
            "unanswerable": n % 4 == 0,
            "other_positive_ids": [f"p{(n + 1) % 12}"][: n % 2],
            "hard_negative_ids": [f"p{(n + 5) % 12}", f"p{(n + 7) % 12}"][: n % 3],
        }
        for n in range(12)
    ]
    for name, rows in (("passages", passages), ("questions", questions)):
        write(folder / f"{name}.jsonl{suffix}", "".join(json.dumps(row) + "\n" for row in rows))


def write_dpr(path):
    items = [
        {
            "question": f"{n}?",
            "answers": [str(n)],
            "score": 1,
            "positive_ctxs": [{"text": passage_text(n), "title": "A" * (n % 2), "passage_id": str(n % 5)}],
            "hard_negative_ctxs": [{"text": passage_text(n - 1), "title": "B"}],
        }
        for n in range(9)
    ]
    text = "\n".join(map(json.dumps, items)) if ".jsonl" in path.suffixes else json.dumps(items)
    write(path, text)


def write_squad(path):
    articles = [
        {
            "title": title,
            "paragraphs": [
                {
                    "context": passage_text(number),
                    "qas": [
                        {"id": f"{title}{number}", "question": "?", "answers": [{"text": "lake", "answer_start": 4}]}
                    ],
                }
                for number in range(3)
            ],
        }
        for title in ("", "A", "B")
    ]
    write(path, json.dumps({"version": "1.1", "data": articles}))


def write_text(folder):
    folder.mkdir()
    for name in ("a.txt", "b.md.gz"):
        write(folder / name, "\n\n".join(f"{name} {number}.\nOr twice." for number in (1, 2, 1)))


def write_beir(folder):
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": ("", "A")[n % 2], "text": passage_text(n)} for n in range(6)]
    queries = [{"_id": f"q{n}", "text": f"{n}?"} for n in range(4)]
    for name, rows in (("corpus.jsonl.gz", corpus), ("queries.jsonl", queries)):
        write(folder / name, "".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"q{n}\td{n + more}\t{1 - more}\n" for n in range(3) for more in (0, 1))
    write(folder / "qrels" / "train.tsv", f"query-id\tcorpus-id\tscore\n{judged}")


def write(path, text):
    content = text.encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


FORMS = {
    "lines": write_jsonl,
    "lines packed": lambda folder: write_jsonl(folder, ".gz"),
    "dpr.json": write_dpr,
    "dpr.json.gz": write_dpr,
    "dpr.jsonl": write_dpr,
    "squad.json": write_squad,
    "squad.json.gz": write_squad,
    "text": write_text,
    "beir": write_beir,
}


def everything(data):
    passages = numbered(data.passages)
    articles = {p.title: list(passages.article(p.title)) for p in passages.in_order}
    assert [data.passages[name] for name in data.passages] == list(passages.in_order)
    assert [passages.number(name) for name in data.passages] == list(range(len(data.passages)))
    return list(data.passages), list(passages.in_order), list(data.questions), articles, +data.left_out


@pytest.mark.parametrize("name", FORMS)
def test_forms(tmp_path, store, name):
    FORMS[name](tmp_path / name)
    files = [path for path in [tmp_path / name, *(tmp_path / name).rglob("*")] if path.is_file()]
    assert sorted(stores.source_files(tmp_path / name)) == sorted(files)  # their bytes count, and name the store
    memory, disk = read_data(tmp_path / name), read_data(tmp_path / name, store)
    assert isinstance(memory.passages, dict)
    assert not isinstance(disk.passages, dict)
    assert everything(disk) == everything(memory)
    assert disk.passages == memory.passages
    with pytest.raises(KeyError):
        disk.passages["nobody"]
    assert everything(read_data(tmp_path / name, store)) == everything(memory)  # what is there already


def test_sets_together(tmp_path, store):
    for name in ("squad.json", "text", "squad.json.gz"):
        FORMS[name](tmp_path / name)
    paths = [tmp_path / name for name in ("squad.json", "text", "squad.json.gz")]
    assert everything(read_together(paths, store)) == everything(read_together(paths))


def test_digests_may_be_shared(tmp_path, store, monkeypatch):
    write_dpr(tmp_path / "dpr.json")
    memory = read_data(tmp_path / "dpr.json")
    monkeypatch.setattr(stored, "digest", lambda text: 2**64 - 2 + len(text) % 2)
    disk = read_data(tmp_path / "dpr.json", store)
    assert disk.passages == memory.passages
    assert list(disk.questions) == list(memory.questions)


def test_tables_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(lookup, "_RECENT", 7)
    keys = np.random.default_rng(1).integers(0, 2**64, 100, dtype=np.uint64).tolist()
    growing = lookup.GrowingLookup()
    for row, key in enumerate(keys):
        assert growing.get(key) is None
        growing.add(key, row)
        assert [growing.get(known) for known in keys[: row + 1]] == list(range(row + 1))
    growing.save(tmp_path / "table")
    mapped = lookup.Lookup.load(tmp_path / "table")
    assert [mapped.get(key) for key in keys] == list(range(100))
    assert mapped.get(0) is None
    assert mapped.get(2**64 - 1) is None


def test_lazy_sequences_are_as_lists():
    lazy, items = Lazy(5, lambda number: number * 10), [0, 10, 20, 30, 40]
    assert list(lazy) == items
    assert (lazy[-1], lazy[1:4], lazy[::-2], 20 in lazy) == (40, items[1:4], items[::-2], True)
    with pytest.raises(IndexError):
        lazy[5]
    chosen = those(those(lazy, lambda item: item > 5), lambda item: item != 20)
    assert isinstance(chosen, Chosen)
    assert list(chosen) == [10, 30, 40]
    assert not those(lazy, lambda item: item > 50)


class TestPlace:
    def test_small_data_stays_in_memory(self, tmp_path):
        write_squad(tmp_path / "squad.json")
        assert isinstance(read_data(tmp_path / "squad.json", tmp_path / "stores").passages, dict)
        assert not (tmp_path / "stores").exists()

    def test_packed_bytes_count_more(self, tmp_path, monkeypatch):
        write_squad(tmp_path / "squad.json.gz")
        size = (tmp_path / "squad.json.gz").stat().st_size
        monkeypatch.setattr(stores, "LARGE", 3 * size)
        assert stores.is_large([tmp_path / "squad.json.gz"])
        (tmp_path / "squad.json.gz").rename(tmp_path / "squad.json")
        assert not stores.is_large([tmp_path / "squad.json"])

    def test_it_is_read_once_and_again_when_it_changed(self, tmp_path, store, monkeypatch):
        write_dpr(tmp_path / "dpr.jsonl")
        read_data(tmp_path / "dpr.jsonl", store)
        make, made = stores._make, []
        monkeypatch.setattr(stores, "_make", lambda *arguments: (made.append(arguments), make(*arguments))[1])
        read_data(tmp_path / "dpr.jsonl", store)
        assert not made
        with (tmp_path / "dpr.jsonl").open("a") as file:
            file.write('\n{"question": "?", "positive_ctxs": [{"text": "new"}]}')
        assert "new" in [p.text for p in read_data(tmp_path / "dpr.jsonl", store).passages.values()]
        assert len(made) == 1

    def test_it_is_deleted_and_nothing_else(self, tmp_path, store):
        write_squad(tmp_path / "squad.json")
        data = read_data(tmp_path / "squad.json", store)
        (store / "mine.txt").write_text("mine")
        stores.delete_stores(store)
        assert [path.name for path in store.iterdir()] == ["mine.txt"]
        assert len(list(data.questions)) == 9  # as long as it is open
        (store / "mine.txt").unlink()
        read_data(tmp_path / "squad.json", store)
        stores.delete_stores(store)
        assert not store.exists()
        stores.delete_stores(store)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="takes a system that forks")
    def test_what_a_killed_process_left_is_replaced(self, tmp_path, store, monkeypatch):
        write_squad(tmp_path / "squad.json")
        child = os.fork()
        if not child:
            monkeypatch.setattr(stores, "replace_folder", lambda *_: os._exit(9))
            read_data(tmp_path / "squad.json", store)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert [path.suffix for path in store.iterdir() if path.is_dir()] == [".partial"]
        assert everything(read_data(tmp_path / "squad.json", store)) == everything(read_data(tmp_path / "squad.json"))
        assert [path.suffix for path in store.iterdir() if path.is_dir()] == [""]

    def test_unwritable_places(self, tmp_path, large):
        write_squad(tmp_path / "squad.json")
        with pytest.raises(DataError, match=r"squad\.json/stores can't be written .* need room there"):
            read_data(tmp_path / "squad.json", tmp_path / "squad.json" / "stores")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("lines/passages.jsonl", '"p7"', '""'),
        ("lines/questions.jsonl", '"q7"', "oops"),
        ("lines/questions.jsonl", '"passage_id": "p7"', '"passage_id": "p77"'),
        ("dpr.json", '"7?"', "null"),
        ("dpr.jsonl", '"7?"', "{]"),
        ("squad.json", '"B2"', "[]"),
        ("squad.json", '"B2"', "oops"),
        ("squad.json", "data", "date"),
    ],
)
def test_mistakes_are_told_as_in_memory_and_leave_nothing(tmp_path, store, name, before, after):
    top = name.partition("/")[0]
    FORMS[top](tmp_path / top)
    content = (tmp_path / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(content.replace(before, after), encoding="utf-8")
    with pytest.raises(DataError) as memory:
        read_data(tmp_path / top)
    with pytest.raises(DataError) as disk:
        read_data(tmp_path / top, store)
    assert str(disk.value) == str(memory.value)
    assert not [path for path in store.iterdir() if path.suffix != ".lock"]


def test_a_large_file_takes_little_memory(tmp_path):
    command = [sys.executable, str(HERE / "read_large.py"), str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    growth, size = map(int, done.stdout.split())
    assert growth < size / 4


def flatten(features, prefix=""):
    for name, value in features.items():
        yield from flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]


def same(one, other):
    one, other = dict(flatten(one)), dict(flatten(other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestTasks:
    @pytest.fixture
    def root(self, data_root):
        write_jsonl(data_root / "lines")
        for rows in ("passages", "questions"):  # whole characters alone, as tokenizers take no halves
            path = data_root / "lines" / f"{rows}.jsonl"
            path.write_text(path.read_text(encoding="utf-8").replace("\\ud83d ", ""), encoding="utf-8")
        return data_root

    def test_every_task_is_among_the_variants(self):
        assert {name for name, _ in VARIANTS} == set(TASKS)

    @pytest.mark.parametrize(("name", "options"), VARIANTS)
    def test_batches(
        self, root, store, tmp_path, make_recipe, tiny_tokenizer, tiny_model, tiny_checkpoint, name, options
    ):
        options = {"batch_size": 5, **options, **({"teacher": str(tiny_checkpoint)} if "distillation" in name else {})}
        recipe = make_recipe("encoder", data=["lines", "texts"], tasks={name: options})
        memory, disk = (build_tasks(recipe, root, tiny_tokenizer, place)[name] for place in (None, store))
        assert isinstance(memory.items, list)
        assert isinstance(disk.items, Lazy)
        for task, folder in ((memory, "memory"), (disk, "disk")):
            (tmp_path / folder).mkdir()
            task.load_teacher(tiny_model)
            task.prepare(tiny_model, tmp_path / folder)
        count = 2 * memory.batches_per_epoch + 1
        assert [disk.ids(number) for number in range(count)] == [memory.ids(number) for number in range(count)]
        assert all(same(disk.batch(number), memory.batch(number)) for number in reversed(range(count)))
        banks = [{path.name: load_file(path) for path in (tmp_path / f).iterdir()} for f in ("memory", "disk")]
        assert banks[0].keys() == banks[1].keys()
        assert all(torch.equal(banks[0][bank]["embeddings"], banks[1][bank]["embeddings"]) for bank in banks[0])

    def test_tasks_of_the_same_data_read_it_once(self, root, store, make_recipe, tiny_tokenizer):
        tasks = {"retrieval": {}, "reading": {}, "masked_lm": {}, "anchor": {"data": "texts"}}
        built = build_tasks(make_recipe("encoder", data="lines", tasks=tasks), root, tiny_tokenizer, store)
        assert len({id(task.passages) for task in built.values()}) == 2
        assert sum(path.is_dir() for path in store.iterdir()) == 2

    def test_they_keep_no_texts(self, root, store, make_recipe, tiny_tokenizer):
        rows = [{"id": str(n), "title": str(n // 4), "text": f"{n} " + "word " * 1000} for n in range(1000)]
        write(root / "lines" / "passages.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        asked = [
            {"id": str(n), "question": "?", "answers": [{"text": "word"}], "passage_id": str(n)} for n in range(1000)
        ]
        write(root / "lines" / "questions.jsonl", "".join(json.dumps(row) + "\n" for row in asked))
        tasks = {"retrieval": {"group_by_article": True}, "reading": {"negative_rate": 1}, "masked_lm": {}}
        recipe = make_recipe("encoder", data="lines", tasks={name: {"batch_size": 2, **o} for name, o in tasks.items()})
        tracemalloc.start()
        try:
            for task in build_tasks(recipe, root, tiny_tokenizer, store).values():
                task.batch(0)
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        size = (root / "lines" / "passages.jsonl").stat().st_size
        assert peak < size / 2
        assert kept < size / 8

    def test_runs(self, root, large, make_recipe, bert_folder, tmp_path, monkeypatch):
        recipe = make_recipe(bert_folder, steps=3, workers=1, development="lines")
        model = train(recipe, root, tmp_path / "disk", stop_after=1)
        assert model is None
        assert (tmp_path / "disk" / "stores").is_dir()
        monkeypatch.setattr(stores, "_make", lambda *_: pytest.fail("read again"))
        disk = train(recipe, root, tmp_path / "disk")
        assert not (tmp_path / "disk" / "stores").exists()
        monkeypatch.setattr(stores, "LARGE", 1 << 40)
        memory = train(recipe, root, tmp_path / "memory")
        weights = [load_file(model / "model.safetensors") for model in (disk, memory)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])

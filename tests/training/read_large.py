"""Reads data sets of every form, first small ones, then large ones, goes through them and writes them in other forms.

Called with a folder. Prints by how many bytes the process's peak memory grew with the large ones, and their size.
"""

import json
import resource
import sys
from pathlib import Path

from training.data import stores
from training.data.formats import read_data, write_data
from training.data.stores import source_files

WORDS = " ".join(f"word{n}" for n in range(600))  # 4 KB
LARGE = 8_000


def texts(count):
    return (f"{n}. {WORDS}" for n in range(count))


def lines(path, values):
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)


def jsonl(path, count):
    path.mkdir()
    lines(
        path / "passages.jsonl", ({"id": f"p{n}", "title": f"{n // 9}", "text": t} for n, t in enumerate(texts(count)))
    )
    rows = ({"id": f"q{n}", "question": "Which?", "answers": [], "passage_id": f"p{n}"} for n in range(count))
    lines(path / "questions.jsonl", rows)


def dpr(path, count):
    items = (
        {"question": f"{n}?", "answers": [f"{n}"], "positive_ctxs": [{"text": t}]} for n, t in enumerate(texts(count))
    )
    lines(path, items)


def squad(path, count):
    with path.open("w", encoding="utf-8") as file:
        file.write('{"data": [')
        for n, text in enumerate(texts(count)):
            qas = [{"id": f"{n}", "question": "Which?", "answers": [{"text": f"{n}", "answer_start": 0}]}]
            article = {"title": f"{n}", "paragraphs": [{"context": text, "qas": qas}]}
            file.write(", " * bool(n) + json.dumps(article))
        file.write("]}")


def plain(path, count):
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{text}\n\n" for text in texts(count))


def use(root, count):
    """Read and write data sets of so many passages; return the bytes of the largest."""
    sizes = []
    for make, name, output in (
        (jsonl, "folder", "squad"),
        (dpr, "dpr.jsonl", "jsonl"),
        (squad, "squad.json", "dpr"),
        (plain, "notes.txt", "jsonl"),
    ):
        path = root / name
        make(path, count)
        data = read_data(path, root / "stores")
        assert sum(1 for _ in data.passages) == count
        assert all(question.passage_id in data.passages for question in data.questions)
        write_data(data, root / "written", output)
        sizes.append(sum(file.stat().st_size for file in source_files(path)))
        stores.delete_stores(root / "stores")
        for file in (*source_files(path), *source_files(root / "written")):
            file.unlink()
        for folder in (path, root / "written"):
            if folder.is_dir():
                folder.rmdir()
    return max(sizes)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    stores.LARGE = 0
    use(Path(sys.argv[1]), LARGE // 20)
    before = peak()
    size = use(Path(sys.argv[1]), LARGE)
    print(peak() - before, size)

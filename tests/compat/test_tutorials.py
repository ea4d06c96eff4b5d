"""Scripts of Haystack 1.x run when their import lines are changed.

What they download lies in folders of the same names: the models are the bundled checkpoint, the documents a part of the
sample corpus.
"""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

from rom_haystack.modeling import bundled_checkpoints

TUTORIALS = sorted((Path(__file__).parent / "tutorials").glob("*.py"))
CORPUS = Path(__file__).parents[2] / "rom_haystack" / "sample_corpus"
ARTICLES = ["marie-curie", "the-moon", "mount-everest"]
MODELS = [
    "facebook/dpr-question_encoder-single-nq-base",
    "facebook/dpr-ctx_encoder-single-nq-base",
    "deepset/roberta-base-squad2",
]
#: Where 1.x had the names.
HOMES = {
    "BM25Retriever": "haystack.nodes",
    "DensePassageRetriever": "haystack.nodes",
    "ExtractiveQAPipeline": "haystack.pipelines",
    "FAISSDocumentStore": "haystack.document_stores",
    "FARMReader": "haystack.nodes",
    "InMemoryDocumentStore": "haystack.document_stores",
    "clean_wiki_text": "haystack.utils",
    "convert_files_to_docs": "haystack.utils",
    "print_answers": "haystack.utils",
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working folder with what the scripts would download, and the names of what is in it."""
    for model in MODELS:
        folder = tmp_path / model
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(next(iter(bundled_checkpoints().values())), target_is_directory=True)
    for name in ("tutorial6", "build_your_first_question_answering_system"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for article in ARTICLES:
            text = (CORPUS / f"{article}.md").read_text(encoding="utf-8").partition("\n")[2].strip()
            (folder / f"{article}.txt").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda path: path.stem)
def test_nothing_but_import_lines_is_ours(script):
    lines = script.read_text(encoding="utf-8").splitlines()
    ours = [
        node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.ImportFrom) and "rom_" in node.module
    ]
    assert ours
    assert all(node.lineno == node.end_lineno and node.module == "rom_haystack.compat" for node in ours)
    for node in ours:  # each line has the names of one of 1.x's modules, so that one line takes the place of one
        assert len({HOMES[alias.name] for alias in node.names}) == 1
        lines[node.lineno - 1] = ""
    assert not [line for line in lines if "rom" in line.replace("from", "").lower()]


@pytest.mark.integration
@pytest.mark.usefixtures("socket_disabled")
def test_better_retrieval_with_dpr(workplace, capsys):
    before = {path.name for path in workplace.iterdir()}
    runpy.run_path(str(TUTORIALS[0]))
    out = capsys.readouterr().out
    assert "Query: Which astronaut stayed in lunar orbit during Apollo 11?" in out
    assert out.index("'Michael Collins'") < 200  # the first answer
    assert out.splitlines()[-3:] == ["marie-curie.txt True", "marie-curie.txt True", "True"]
    after = {path.name for path in workplace.iterdir()}
    assert after - before == {"my_faiss_index.faiss", "my_faiss_index.json", "my_dpr"}


@pytest.mark.integration
@pytest.mark.usefixtures("socket_disabled")
def test_first_qa_system(workplace, capsys):
    before = sorted(workplace.rglob("*"))
    runpy.run_path(str(TUTORIALS[1]))
    out = capsys.readouterr().out
    assert "Michael Collins True" in out
    last = ast.literal_eval(out.splitlines()[-1])
    assert "Curie" in last[0]
    assert "Aldrin" in last[1]
    assert sorted(workplace.rglob("*")) == before

"""The `train` methods, all the way: 1.x's files in, a trained model out, which is used from then on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rom_haystack.compat import DensePassageRetriever, Document, FARMReader

pytest.importorskip("yaml")
pytest.importorskip("rom_haystack.compat.training")

PASSAGES = {
    "Radium": "Radium glows in the dark. Marie Curie found it in 1898.",
    "Everest": "Mount Everest stands 8849 metres high, on the border of Nepal.",
    "The Nile": "The Nile flows north. Its delta lies in Egypt.",
    "The Moon": "The Moon has no air. Twelve astronauts walked on it.",
}
QUESTIONS = {
    "Radium": ("When was radium found?", "1898"),
    "Everest": ("How high is Everest?", "8849 metres"),
    "The Nile": ("Where does the Nile flow?", "north"),
    "The Moon": ("Who walked on the Moon?", "Twelve astronauts"),
}


@pytest.fixture
def data(tmp_path):
    """A folder of a DPR file and a SQuAD file with the same four questions."""
    titles = list(PASSAGES)
    dpr, squad = [], []
    for number, title in enumerate(titles):
        question, answer = QUESTIONS[title]
        other = titles[number - 1]
        dpr.append(
            {
                "dataset": "ours",
                "question": question,
                "answers": [answer],
                "positive_ctxs": [{"title": title, "text": PASSAGES[title], "passage_id": str(number)}],
                "negative_ctxs": [],
                "hard_negative_ctxs": [
                    {"title": other, "text": PASSAGES[other], "passage_id": str(titles.index(other))}
                ],
            }
        )
        answers = [{"text": answer, "answer_start": PASSAGES[title].index(answer)}]
        qas = [{"id": str(number), "question": question, "answers": answers}]
        squad.append({"title": title, "paragraphs": [{"context": PASSAGES[title], "qas": qas}]})
    (tmp_path / "dpr.json").write_text(json.dumps(dpr))
    (tmp_path / "squad.json").write_text(json.dumps({"version": "1.1", "data": squad}))
    return tmp_path


def test_a_retriever(data, retriever):
    documents = [Document(text, meta={"name": title}) for title, text in PASSAGES.items()]
    before = retriever.embed_documents(documents)
    options = {"n_epochs": 1, "num_warmup_steps": 0, "learning_rate": 1e-3, "save_dir": data / "saved"}
    retriever.train(data, "dpr.json", **options)
    after = retriever.embed_documents(documents)
    assert after.shape == before.shape
    assert not np.allclose(after, before, atol=1e-4)
    assert retriever.query_embedding_model == retriever.passage_embedding_model
    loaded = DensePassageRetriever.load(data / "saved", None, use_gpu=False)
    assert loaded.query_embedding_model == loaded.passage_embedding_model
    np.testing.assert_allclose(loaded.embed_documents(documents), after, atol=1e-5)
    loaded.close()


def test_a_reader(data, reader):
    documents = [Document(text) for text in PASSAGES.values()]
    before = reader.predict("Where does the Nile flow?", documents)["answers"]
    reader.train(data, "squad.json", n_epochs=1, batch_size=4, learning_rate=1e-3, save_dir=data / "saved")
    after = reader.predict("Where does the Nile flow?", documents)["answers"]
    assert [a.score for a in after] != pytest.approx([a.score for a in before], abs=1e-4)
    loaded = FARMReader(data / "saved", use_gpu=False)
    found = loaded.predict("Where does the Nile flow?", documents)["answers"]
    assert [a.score for a in found] == pytest.approx([a.score for a in after], abs=1e-5)
    assert reader.eval_on_file(data, "squad.json")["Total_text_answer"] == 4
    loaded.close()

"""Whole data sets come back from every format as they were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from training.data.dataset import DataSet, Passage, Question, text_id
from training.data.formats import read_data, write_data

PIECES = ("cat", "Été", "a.b", "🌙", "(x)", '"', "\\", "the\n", "\ud800")

WORDS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6)


@st.composite
def data_sets(draw):
    """Whole data sets as SQuAD can hold them: passages named by their text, answers taken from it."""
    texts = draw(st.lists(WORDS.map(" ".join), min_size=1, max_size=5, unique=True))
    passages = {text_id(text): Passage(text_id(text), draw(st.sampled_from(["", "T", "U"])), text) for text in texts}
    questions = []
    for number in range(draw(st.integers(1, 5))):
        passage = draw(st.sampled_from(list(passages.values())))
        starts = {}
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(passage.text) - 1))
            end = draw(st.integers(start + 1, len(passage.text)))
            starts.setdefault(passage.text[start:end], start)
        questions.append(
            Question(
                str(number), draw(WORDS.map("".join)), tuple(starts), passage.id, tuple(starts.values()), not starts
            )
        )
    return DataSet(passages, questions)


@given(data_sets())
def test_round_trips_lose_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("trip")
    for kind in ("squad", "jsonl", "dpr"):
        left_out = write_data(data, folder / kind, kind, "x")
        again = read_data(folder / kind)
        by_id = {question.id: question for question in again.questions}
        if kind == "dpr":
            answered = [question for question in data.questions if question.answers]
            assert list(by_id) == [question.id for question in answered]
            assert [q.answers for q in again.questions] == [q.answers for q in answered]
            assert left_out["unanswerable question"] == len(data.questions) - len(answered)
            assert left_out["passage that no question names"] == len(data.passages) - len(again.passages)
        else:
            assert left_out == {}
            assert again.passages == data.passages
            assert by_id == {question.id: question for question in data.questions}

"""The service alone, with the tiny model, whose answers are random."""

import asyncio
import json
import shutil
import threading

import pytest
from typer.testing import CliRunner

from rom_haystack.cli import app
from rom_haystack.library import Library
from rom_haystack.serving.limits import InvalidRequestError, Limits, UnavailableError
from rom_haystack.serving.service import QuestionService


def test_it_answers_as_the_command_line_does(shared, tiny_checkpoint):
    arguments = ["--docs", shared.library.folder, "--index", shared.library.index, "--model", tiny_checkpoint]
    for question in ("What hunts?", "Where does the heron wait?"):
        asked = CliRunner().invoke(
            app, ["ask", question, *map(str, arguments), "--json", "--top-k", "3", "--passages", "2"]
        )
        expected = json.loads(asked.stdout)
        expected.pop("index")
        assert json.loads(json.dumps(shared.ask(question))) == expected


def test_the_keyword_weight_is_that_of_the_command_line(shared, tiny_checkpoint):
    arguments = ["--docs", shared.library.folder, "--index", shared.library.index, "--model", tiny_checkpoint]
    for weight, number in ((1.0, 1), (0.0, 3), (None, 3)):  # "hunts" is in one text
        service = QuestionService(shared.library, Limits(passages=3), weight)
        options = [] if weight is None else ["--keyword-weight", weight]
        asked = CliRunner().invoke(app, ["ask", "hunts", *map(str, [*arguments, "--passages", 3, *options]), "--json"])
        found = service.ask("hunts")["passages"]
        assert (found, len(found)) == (json.loads(asked.stdout)["passages"], number)
        service.close()


def test_a_request_may_say_how_much(shared):
    few, many = shared.ask("What hunts?", 1, 1), shared.ask("What hunts?", 50, 100)
    assert (len(few["passages"]), len(many["passages"])) == (1, 3)
    assert len(few["answers"]) <= 1
    assert len(shared.ask("What hunts?")["passages"]) == 2


def test_the_no_answer_takes_no_answers_place(shared, monkeypatch):
    asked = {}

    def run(**arguments):
        asked.update(arguments)
        return {"answers": [], "documents": []}

    monkeypatch.setattr(shared.qa, "run", run)
    shared.ask("What hunts?", top_k=2, passages=7)
    assert asked == {"query": "What hunts?", "filters": None, "top_k": 3, "top_k_retriever": 7}


def test_filters_choose_the_documents(shared):
    found = shared.ask("What?", filters={"field": "meta.file_path", "operator": "==", "value": "owl.txt"})
    assert [passage["file_path"] for passage in found["passages"]] == ["owl.txt"]
    nothing = shared.ask("What?", filters={"field": "meta.file_path", "operator": "==", "value": "x"})
    assert (nothing["answered"], nothing["answers"], nothing["passages"]) == (False, [], [])


@pytest.mark.parametrize("filters", [{"a": 1}, {"field": "meta.x", "operator": "like", "value": 1}])
def test_filters_that_can_not_be_are_explained(shared, filters):
    with pytest.raises(InvalidRequestError, match=r"The filters can't be used: .*operator"):
        shared.ask("What?", filters=filters)


def test_it_is_ready_once_it_is_warm(service, tiny_checkpoint):
    cold = service.health()
    service.warm_up()
    assert (cold["ready"], cold["reason"]) == (False, "The model is not loaded yet.")
    assert service.health() == {
        "ready": True,
        "model": str(tiny_checkpoint),
        "backend": "torch-float32",
        "passages": 3,
        "reason": None,
    }


def test_it_warms_up_whatever_may_be_asked(shared):
    service = QuestionService(shared.library, Limits(max_question_length=1))
    service.warm_up()
    assert service.health()["ready"]
    service.close()


def test_it_follows_the_index(service, tmp_path, tiny_checkpoint):
    service.warm_up()
    docs = tmp_path / "docs"
    (docs / "kestrel.txt").write_text("The kestrel hovers.")
    with Library(docs, index=tmp_path / "index", model=str(tiny_checkpoint)) as other:
        other.update()
    assert service.health()["passages"] == 4
    assert "kestrel.txt" in {passage["file_path"] for passage in service.ask("Kestrel?", passages=4)["passages"]}


def test_it_follows_an_index_that_is_made_anew(service, tmp_path, tiny_checkpoint):
    service.warm_up()
    docs = tmp_path / "docs"
    (docs / "owl.txt").unlink()
    shutil.rmtree(tmp_path / "index")
    with Library(docs, index=tmp_path / "index", model=str(tiny_checkpoint), split_length=3) as other:
        other.update()
    assert {passage["file_path"] for passage in service.ask("Who?", passages=9)["passages"]} == {
        "heron.md",
        "rivers.txt",
    }


def test_an_index_that_is_lost_makes_it_unavailable(service, tmp_path):
    service.warm_up()
    (tmp_path / "index" / "store").rename(tmp_path / "gone")
    with pytest.raises(UnavailableError, match="index"):
        service.ask("What hunts?")
    health = service.health()
    assert (health["ready"], health["passages"]) == (False, 0)
    assert "index" in health["reason"]
    (tmp_path / "gone").rename(tmp_path / "index" / "store")
    assert service.health()["ready"]
    assert service.ask("What hunts?")["passages"]


async def test_many_questions_at_a_time_get_the_answers_of_one_at_a_time(shared):
    questions = [f"What hunts {n}?" for n in range(16)]
    together = await asyncio.gather(*(shared.ask_async(question) for question in questions))
    for question, found in zip(questions, together, strict=True):
        alone = shared.ask(question)
        assert [answer["answer"] for answer in found["answers"]] == [answer["answer"] for answer in alone["answers"]]
        assert [passage["id"] for passage in found["passages"]] == [passage["id"] for passage in alone["passages"]]


async def test_closing_waits_for_the_question_that_is_being_read(shared):
    service = QuestionService(shared.library, Limits())
    begun, go_on, finished = threading.Event(), threading.Event(), []

    def run(**_):
        begun.set()
        go_on.wait()
        finished.append("read")
        return {"answers": [], "documents": []}

    service.qa.run = run
    asked = asyncio.create_task(service.ask_async("What?"))
    await asyncio.to_thread(begun.wait)
    closing = asyncio.create_task(asyncio.to_thread(service.close))
    assert not (await asyncio.wait({closing}, timeout=0.3))[0]  # it would have closed, if it did not wait
    go_on.set()
    await closing
    assert finished == ["read"]
    assert (await asked)["answered"] is False

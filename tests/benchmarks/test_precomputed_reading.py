"""Precomputed reading: a split of no layers changes nothing, and states computed apart are those of the mask."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.precomputed.costs import (
    STORE_BYTES,
    draw_work,
    loading_times,
    operations,
    passage_tokens,
    reading_times,
    storage,
)
from benchmarks.precomputed.quality import BEST_SCHEME, SCHEMES, at_layers, draw, reading_quality, retrieval_recall
from benchmarks.precomputed.report import markdown
from benchmarks.precomputed.split import Split, SplitModel, stored_and_read
from benchmarks.precomputed.storage import StateFile, bytes_per_token
from benchmarks.precomputed.stored import StoredReader
from benchmarks.precomputed.tuning import tune
from benchmarks.precomputed_reading import app
from rom_haystack.modeling import load_checkpoint
from training.data.dataset import Passage, Question
from training.recipe import Recipe

QUERIES = ["Where do bees live?", "What is the tallest mountain of all that anyone has climbed?"]
PASSAGES = ["Honey bees live in hives, in large colonies.", "Mount Everest is the highest mountain on Earth."]
READING = ("start_logits", "end_logits", "relevance_logits")


@pytest.fixture
def pairs(tiny_tokenizer):
    return dict(tiny_tokenizer(QUERIES, PASSAGES, padding=True, return_tensors="pt"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """SQuAD's dev set in small: both questions, and a passage that answers neither."""
    root = tmp_path_factory.mktemp("data")
    for name in ("squad/dev", "squad/train"):
        folder = root / name
        folder.mkdir(parents=True)
        passages = [*PASSAGES, "Nobody asks for this passage."]
        rows = [{"id": str(n), "title": "Things", "text": text} for n, text in enumerate(passages)]
        (folder / "passages.jsonl").write_text("\n".join(map(json.dumps, rows)))
        rows = [
            {"id": str(n), "question": query, "answers": [{"text": answer}], "passage_id": str(n)}
            for n, (query, answer) in enumerate(zip(QUERIES, ["hives", "Mount Everest"], strict=True))
        ]
        (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def read(model, tokenizer, split, pairs):
    with torch.inference_mode():
        return SplitModel(model, tokenizer, split).eval()(**pairs, head="reading")


def test_no_split_layers_are_ordinary_reading(tiny_model, tiny_tokenizer, pairs):
    with torch.inference_mode():
        expected = tiny_model(**pairs, head="reading")
    found = read(tiny_model, tiny_tokenizer, Split(), pairs)
    real = pairs["attention_mask"].bool()
    assert torch.equal(found["relevance_logits"], expected["relevance_logits"])
    for side in ("start_logits", "end_logits"):
        assert torch.equal(found[side][real], expected[side][real])


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_passages_split_in_all_layers_know_nothing_of_the_query(tiny_model, tiny_tokenizer, scheme):
    split = at_layers(scheme, 2)
    passage = f"Things [SEP] {PASSAGES[0]}" if split.with_title else PASSAGES[0]
    # behind the query, a passage's place still depends on the query's length
    queries = [QUERIES[0], "live do bees Where?" if split.first_position is None else QUERIES[1]]
    logits = []
    for query in queries:
        pair = dict(tiny_tokenizer([query], [passage], return_tensors="pt"))
        found = read(tiny_model, tiny_tokenizer, split, pair)["start_logits"][0]
        logits.append(found[pair["token_type_ids"][0] == 1])
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_above_the_split_the_query_counts(tiny_model, tiny_tokenizer, scheme, layers):
    split = at_layers(scheme, layers)
    logits = []
    for query in ("Where do bees live?", "Where do cows live?"):
        pair = dict(tiny_tokenizer([query], [f"Things [SEP] {PASSAGES[0]}"], return_tensors="pt"))
        logits.append(read(tiny_model, tiny_tokenizer, split, pair)["start_logits"][0, -6:])
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize(
    "scheme", [name for name, split in SCHEMES.items() if split.first_position is not None and not split.one_way]
)
def test_states_computed_apart_are_those_of_the_mask(tiny_model, tiny_tokenizer, scheme, layers):
    split = at_layers(scheme, layers)
    tolerance = 1e-5 if split.stored_as == "float32" else 0.05  # a code may be rounded the other way
    reader = StoredReader(SplitModel(tiny_model, tiny_tokenizer, split).eval())
    title = tiny_tokenizer("Things [SEP]", add_special_tokens=False)["input_ids"] if split.with_title else []
    texts = [f"Things [SEP] {text}" if split.with_title else text for text in PASSAGES]
    for query in QUERIES:
        query_ids = tiny_tokenizer(query)["input_ids"]
        stored = [reader.passage_states(tiny_tokenizer(text)["input_ids"][1:], title_ids=title) for text in PASSAGES]
        if split.stored_as != "float32":
            stored = [stored_and_read(states, split.stored_as) for states in stored]
        apart = reader.read(query_ids, stored)
        pairs = dict(tiny_tokenizer([query] * 2, texts, padding=True, return_tensors="pt"))
        masked = read(tiny_model, tiny_tokenizer, split, pairs)
        for row, outputs in enumerate(apart):
            seen = torch.cat(
                [torch.arange(len(query_ids)), torch.arange(len(stored[row])) + len(query_ids) + len(title)]
            )
            for side in ("start_logits", "end_logits"):
                torch.testing.assert_close(outputs[side], masked[side][row][seen], rtol=0, atol=tolerance)
            torch.testing.assert_close(
                outputs["relevance_logits"], masked["relevance_logits"][row], rtol=0, atol=tolerance
            )


def test_one_way_queries_see_the_passage(tiny_model, tiny_tokenizer):
    """With all layers split, only a query that sees the passage can tell passages apart by their relevance."""
    relevance = {}
    for one_way in (False, True):
        split = Split(layers=2, first_position=16, one_way=one_way)
        pairs = dict(tiny_tokenizer([QUERIES[0]] * 2, PASSAGES, padding=True, return_tensors="pt"))
        first, second = read(tiny_model, tiny_tokenizer, split, pairs)["relevance_logits"].tolist()
        relevance[one_way] = abs(first - second)
    assert relevance[False] < 1e-5
    assert relevance[True] > 1e-3


def test_titles_can_not_be_answers(tiny_model, tiny_tokenizer):
    split = at_layers("retrieval's form, title", 1)
    pair = dict(tiny_tokenizer([QUERIES[0]], [f"Things [SEP] {PASSAGES[0]}"], return_tensors="pt"))
    logits = read(tiny_model, tiny_tokenizer, split, pair)["start_logits"][0]
    separators = (pair["input_ids"][0] == tiny_tokenizer.sep_token_id).nonzero().flatten().tolist()
    title = logits[separators[0] + 1 : separators[1] + 1]
    assert title.max() < -1000 < logits[separators[1] + 1 :].min()


def test_embeddings_stay(tiny_model, tiny_tokenizer):
    inputs = dict(tiny_tokenizer(PASSAGES, padding=True, return_tensors="pt"))
    with torch.inference_mode():
        found = SplitModel(tiny_model, tiny_tokenizer, Split(layers=2)).eval()(**inputs)
        assert torch.equal(found["embedding"], tiny_model(**inputs)["embedding"])


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 2e-3), ("int8", 2e-2)])
def test_files_give_states_back(tmp_path, precision, tolerance):
    torch.manual_seed(5)
    passages = [torch.randn(length, 64) for length in (5, 1, 12)]
    file = StateFile(tmp_path / "states", passages, precision)
    file.drop_from_cache()
    assert len(file) == 3
    assert (tmp_path / "states").stat().st_size == 18 * bytes_per_token(64, precision)
    for found, number in zip(file.read([2, 0]), (2, 0), strict=True):
        torch.testing.assert_close(found, passages[number], rtol=0, atol=tolerance)
        torch.testing.assert_close(found, stored_and_read(passages[number], precision), rtol=0, atol=1e-6)


def test_stored_precision_changes_only_passages(tiny_model, tiny_tokenizer, pairs):
    exact = read(tiny_model, tiny_tokenizer, Split(layers=2, first_position=16), pairs)
    rounded = read(tiny_model, tiny_tokenizer, Split(layers=2, first_position=16, stored_as="int8"), pairs)
    assert torch.equal(exact["relevance_logits"], rounded["relevance_logits"])


def test_int8_reaches_the_upper_layers(tiny_model, tiny_tokenizer, pairs):
    exact = read(tiny_model, tiny_tokenizer, Split(layers=1, first_position=16), pairs)["start_logits"]
    rounded = read(tiny_model, tiny_tokenizer, Split(layers=1, first_position=16, stored_as="int8"), pairs)
    difference = (rounded["start_logits"] - exact).abs().max()
    assert 0 < difference < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"own_cls": True}, "first_position"), ({"layers": 3}, "3 layers"), ({"layers": -1}, "-1 layers")],
)
def test_impossible_splits_are_named(tiny_model, tiny_tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        SplitModel(tiny_model, tiny_tokenizer, Split(**options))


@pytest.mark.parametrize("split", [Split(layers=1), Split(layers=1, first_position=0, one_way=True)])
def test_splits_that_can_not_be_stored_are_named(tiny_model, tiny_tokenizer, split):
    with pytest.raises(ValueError, match=r"first_position|more than one state"):
        StoredReader(SplitModel(tiny_model, tiny_tokenizer, split))


def test_storage_figures():
    figures = storage([100, 200], hidden_size=384)
    assert figures["tokens"] == 150
    assert figures["float16"]["bytes_per_passage"] == 150 * 768
    assert figures["int8"]["bytes_per_passage"] == 150 * 386
    assert figures["float16"]["gb_per_100000"] == 11.52
    assert figures["float16"]["times_store"] == round(150 * 768 / STORE_BYTES, 1)


def test_operations_count_what_a_split_leaves(tiny_model):
    config, sizes = tiny_model.config.encoder, {"query": 10, "passage": 90, "passages": 10}
    layer = 2 * 100 * (4 * 64**2 + 2 * 64 * 128) + 4 * 100**2 * 64
    alone = 2 * 10 * (4 * 64**2 + 2 * 64 * 128) + 4 * 10**2 * 64
    assert operations(config, 0, **sizes) == 10 * 2 * layer
    assert operations(config, 1, **sizes) == 10 * layer + alone
    assert operations(config, 2, **sizes) == 2 * alone


def test_quality_of_the_right_and_the_wrong_answer(tiny_model, tiny_tokenizer, data):
    sample = draw(data / "squad" / "dev", 2, seed=1)
    whole = {"EM": 100.0, "F1": 100.0}
    assert reading_quality(tiny_model, tiny_tokenizer, Split(), sample) == reading_quality(
        tiny_model, tiny_tokenizer, None, sample
    )
    passage = Passage("9", "", "42")
    certain = type(sample)([Question("9", "How many?", ("42",), "9")], [passage], [passage])
    assert reading_quality(tiny_model, tiny_tokenizer, at_layers(BEST_SCHEME, 1), certain) == whole
    recall = retrieval_recall(tiny_model, tiny_tokenizer, sample)
    assert 0 <= recall["recall@1"] <= recall["recall@5"] == 100  # there are three passages


def test_too_many_questions_are_named(data):
    with pytest.raises(ValueError, match="3 questions were asked for"):
        draw(data / "squad" / "dev", 3, seed=1)


def test_times_are_there_and_files_are_not(tiny_model, tiny_tokenizer, tmp_path):
    ids = passage_tokens(tiny_tokenizer, PASSAGES)
    work = draw_work([tiny_tokenizer(query)["input_ids"] for query in QUERIES], ids, count=2, seed=1)
    assert [sorted(item.rows) for item in work] == [[0, 1], [0, 1]]
    assert all(item.passages == [ids[row] for row in item.rows] for item in work)
    assert set(reading_times(tiny_model, tiny_tokenizer, work, [1])["upper layers"]) == {"1"}
    reader = StoredReader(SplitModel(tiny_model, tiny_tokenizer, at_layers(BEST_SCHEME, 1)).eval())
    assert {name: set(times) for name, times in loading_times(reader, ids, work, tmp_path).items()} == {
        "float16": {"warm", "cold"},
        "int8": {"warm", "cold"},
    }
    assert not list(tmp_path.iterdir())


def test_tuning_makes_a_checkpoint_that_reads_better_by_the_split(tiny_checkpoint, data, tmp_path):
    split = Split(layers=1, first_position=16)
    recipe = Recipe(
        name="tiny",
        encoder="unused",
        data="squad/train",
        tasks={"reading": {"batch_size": 2, "negative_rate": 0.0}, "retrieval": {"batch_size": 2}},
        steps=12,
        learning_rate=3e-3,
        bf16=False,
        attention="eager",
    )
    folder = tune(str(tiny_checkpoint), split, recipe, data, tmp_path / "run")
    sample = draw(data / "squad" / "dev", 2, seed=1)
    assert reading_quality(*load_checkpoint(folder), split, sample)["F1"] == 100
    assert reading_quality(*load_checkpoint(tiny_checkpoint), split, sample)["F1"] < 100


def test_command_measures_resumes_and_reports(tiny_checkpoint, data, tmp_path):
    output = tmp_path / "results.json"
    arguments = ["run", "--data", data, "--output", output, "--model", tiny_checkpoint, "--questions", 2]
    arguments += ["--tuned", tiny_checkpoint, "--tuned-layers", 1, "--dtype", "float32", "--passages", 2]
    arguments = [str(argument) for argument in [*arguments, "--timed-questions", 1]]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    results = json.loads(output.read_text())
    assert set(results["quality"]) == set(SCHEMES)
    assert np.isclose(results["costs"]["operations"]["0"], 1)
    results["quality"][BEST_SCHEME]["1"] = {"EM": 12.3, "F1": 45.6}
    output.write_text(json.dumps(results))
    assert "12.3 / 45.6" in CliRunner().invoke(app, arguments).output
    assert "12.3 / 45.6" in CliRunner().invoke(app, ["table", str(output)]).output
    other = CliRunner().invoke(app, [*arguments, "--seed", "14"])
    assert other.exit_code == 2
    assert "other settings" in other.output


def test_report_leaves_out_what_was_not_measured():
    text = markdown({"quality": {"a": {"0": {"EM": 1, "F1": 2}}, "b": {"1": {"EM": 3, "F1": 4}}}})
    assert "| a | 1.0 / 2.0 | – |" in text
    assert "Costs" not in text

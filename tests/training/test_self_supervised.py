"""Tasks that learn from passages alone: what they hide, what they ask, and where the answers stand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from rom_haystack.metrics import answer_tokens, has_answer
from rom_haystack.modeling import ROMConfig, ROMModel
from training.data.dataset import DataSet, Passage
from training.errors import RecipeError
from training.tasks import InverseClozeTask, MaskedLMTask, RecurringSpansTask
from training.tasks import texts as texts_module
from training.tasks.texts import LONGEST_SPAN, WordIndex, recurring_spans, sentences, without

TEXT = "Marie Curie was born in Warsaw. In Paris, Marie Curie found radium in 1898. She knew Dr. Smith of Paris."
SENTENCES = [
    "Marie Curie was born in Warsaw.",
    "In Paris, Marie Curie found radium in 1898.",
    "She knew Dr. Smith of Paris.",
]


def passages(*texts):
    return {str(i): Passage(str(i), "Title", text) for i, text in enumerate(texts)}


def spans(text):
    return {(span.text, text[span.start : span.end]) for span in recurring_spans(text)}


def decoded(tokenizer, ids):
    return tokenizer.decode([i for i in ids if i != tokenizer.pad_token_id]).replace(" ##", "")


class TestSentences:
    def test_are_found_in_order(self):
        assert [TEXT[start:end] for start, end in sentences(TEXT)] == SENTENCES
        assert [f"\n {TEXT} "[start:end] for start, end in sentences(f"\n {TEXT} ")] == SENTENCES
        assert list(sentences(" \n")) == []

    def test_long_ones_come_in_pieces_that_miss_nothing(self):
        text = "word " * 500
        pieces = [text[start:end] for start, end in sentences(text)]
        assert len(pieces) > 1
        assert " ".join(pieces) == text.strip()

    def test_are_found_once(self, monkeypatch):
        calls = []
        around = texts_module.sentence_around
        monkeypatch.setattr(texts_module, "sentence_around", lambda *args: (calls.append(args), around(*args))[1])
        text = "Found once. " * 3 + "Never again."
        assert sentences(text) == sentences(text)
        assert len(calls) == len(sentences(text)) == 4

    def test_one_can_be_taken_out(self):
        for sentence in SENTENCES:
            start = TEXT.index(sentence)
            rest = " ".join(other for other in SENTENCES if other != sentence)
            assert without(TEXT, start, start + len(sentence)) == rest


class TestRecurringSpans:
    def test_stand_in_two_sentences(self):
        assert spans(TEXT) == {
            ("Marie Curie", SENTENCES[0]),
            ("Marie Curie", SENTENCES[1]),
            ("Paris", SENTENCES[1]),
            ("Paris", SENTENCES[2]),
        }

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Ada met Ada.", set()),  # in one sentence
            ("He went. He came.", set()),  # stop words alone
            ("Bank of Rome. The Bank of Rome.", {"Bank of Rome"}),  # stop words inside
            ("I saw the Nile. We saw the Nile of old.", {"saw the Nile"}),  # not at the ends
            ("The cat sat. A Cat stood.", set()),  # case counts
            ("Red, blue. Red blue.", {"Red", "blue"}),  # joined differently
            ("A 7 B. C 7 D.", set()),  # single characters
            ("In 1858 it rained. So it did in 1858.", {"1858"}),
            ("Rome fell. It fell in Rome. Rome fell twice.", {"Rome fell", "Rome", "fell"}),
            ("Rome fell", set()),
            ("", set()),
        ],
    )
    def test_are_maximal_whole_words(self, text, expected):
        assert {span for span, _ in spans(text)} == expected

    def test_are_not_too_long(self):
        text = f"{' '.join(map(str, range(10, 40)))}. Then {' '.join(map(str, range(10, 40)))}."
        assert {len(span.split()) for span, _ in spans(text)} == {LONGEST_SPAN}

    def test_come_once_for_each_sentence(self):
        found = list(recurring_spans(TEXT.replace("Warsaw", "Warsaw by Paris")))
        assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (("cat",), {3, 9}),
        (("CAT",), {3, 9}),
        (("12%",), {5}),
        (("12 %",), {5}),
        (("%",), {5, 9}),
        (("cat", "dog"), {3, 8, 9}),
        (("a  cat",), {3}),
        (("cat a",), set()),
        (("concat",), set()),
        ((".",), {8}),
        (("none",), set()),
        (("\u200b",), set()),  # no token
        ((), set()),
    ],
)
def test_word_index_finds_what_the_metric_does(answers, found):
    texts = {3: "A cat sat", 5: "concatenate 12%", 8: "a dog.", 9: "Cat, dog and 112%", 11: ""}
    tokens = {number: answer_tokens(text) for number, text in texts.items()}
    assert WordIndex(tokens).holders(answers) == found
    assert {number for number, text in tokens.items() if has_answer(text, answers)} == found


class TestMaskedLM:
    def task(self, tokenizer, *texts, **options):
        collection = passages(*(texts or [TEXT, "Short words here."]))
        return MaskedLMTask(MaskedLMTask.Options(**options), list(collection.values()), collection, tokenizer, 1)

    def test_labels_are_the_tokens_that_stood_there(self, tiny_tokenizer):
        task = self.task(tiny_tokenizer)
        whole = tiny_tokenizer([p.text for p in task.items], padding=True, return_tensors="pt")["input_ids"]
        for seed in range(20):
            features = task.collate(task.items, np.random.default_rng(seed))
            ids, labels = features["inputs"]["input_ids"], features["labels"]
            sought = labels != -100
            assert torch.equal(torch.where(sought, labels, ids), whole)
            assert sought.any(-1).all()
            assert not (sought & torch.isin(whole, torch.tensor(tiny_tokenizer.all_special_ids))).any()

    def test_shares_are_berts(self, tiny_tokenizer):
        """15% of the tokens are chosen; of these 80% are masked, 10% are another token, 10% stay."""
        task = self.task(tiny_tokenizer, " ".join(["the river flows"] * 40), whole_words=False, max_length=512)
        ids, labels = [], []
        for seed in range(60):
            features = task.collate(task.items, np.random.default_rng(seed))
            ids.append(features["inputs"]["input_ids"])
            labels.append(features["labels"])
        ids, labels = torch.cat(ids), torch.cat(labels)
        sought = labels != -100
        inside = (ids != tiny_tokenizer.cls_token_id) & (ids != tiny_tokenizer.sep_token_id)
        assert (sought.sum() / inside.sum()).item() == pytest.approx(0.15, abs=0.005)
        masked = ids[sought] == tiny_tokenizer.mask_token_id
        kept = ids[sought] == labels[sought]
        assert masked.float().mean().item() == pytest.approx(0.8, abs=0.05)
        assert kept.float().mean().item() == pytest.approx(0.1, abs=0.04)
        others = ids[sought][~masked & ~kept]
        assert len(others.unique()) > len(others) / 3  # any token of the vocabulary
        assert not set(others.tolist()) & set(tiny_tokenizer.all_special_ids)

    @pytest.mark.parametrize("whole_words", [True, False])
    def test_whole_words(self, family, whole_words):
        task = self.task(
            family.tokenizer, "Extraordinary crystallography " * 6, whole_words=whole_words, max_length=400
        )
        words = family.tokenizer(task.items[0].text).word_ids()
        assert len(words) > len(set(words)) + 6  # of several tokens
        broken = 0
        for seed in range(10):
            labels = task.collate(task.items, np.random.default_rng(seed))["labels"][0].tolist()
            chosen = {word for word, label in zip(words, labels, strict=True) if label != -100}
            broken += sum(word in chosen and label == -100 for word, label in zip(words, labels, strict=True))
        assert (broken == 0) is whole_words

    def test_of_long_passages_any_piece_is_drawn(self, tiny_tokenizer):
        text = " ".join(str(number) for number in range(100, 200))
        task, seen = self.task(tiny_tokenizer, text, max_length=24), set()
        for seed in range(60):
            features = task.collate(task.items, np.random.default_rng(seed))
            assert features["inputs"]["input_ids"].shape[1] <= 24
            ids = torch.where(features["labels"] != -100, features["labels"], features["inputs"]["input_ids"])
            seen.add(decoded(tiny_tokenizer, ids[0].tolist()))
        whole = tiny_tokenizer(text, truncation=True, max_length=24, return_overflowing_tokens=True)["input_ids"]
        assert seen == {decoded(tiny_tokenizer, ids) for ids in whole}

    def test_loss_equals_its_definition(self, tiny_tokenizer, tiny_model):
        model = ROMModel(ROMConfig(encoder=copy.deepcopy(tiny_model.config.encoder), heads={"masked_lm": {}})).eval()
        task = self.task(tiny_tokenizer)
        features = task.collate(task.items, np.random.default_rng(0))
        with torch.no_grad():
            logits = model(**features["inputs"], head="masked_lm")["token_logits"].double()
            loss, metrics = task.loss(model, features)
        losses, right = [], []
        for row, position in (features["labels"] != -100).nonzero().tolist():
            label, scores = features["labels"][row, position], logits[row, position]
            losses.append(math.log(scores.exp().sum()) - scores[label].item())
            right.append(scores.argmax().item() == label)
        assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
        assert metrics == pytest.approx({"token_loss": np.mean(losses), "accuracy": np.mean(right)}, rel=1e-4)

    def test_the_vocabulary_is_scored_for_the_sought_tokens_only(self, tiny_tokenizer, tiny_model):
        model = ROMModel(ROMConfig(encoder=copy.deepcopy(tiny_model.config.encoder), heads={"masked_lm": {}})).eval()
        task, shapes = self.task(tiny_tokenizer), []
        features = task.collate(task.items, np.random.default_rng(0))
        sought = features["labels"] != -100
        with torch.no_grad():
            some = model(**features["inputs"], head="masked_lm", sought=sought)["token_logits"]
            torch.testing.assert_close(some, model(**features["inputs"], head="masked_lm")["token_logits"][sought])
        model.heads["masked_lm"].register_forward_hook(lambda *given: shapes.append(given[-1]["token_logits"].shape))
        task.loss(model, features)
        assert shapes == [(sought.sum(), len(tiny_tokenizer))]

    def test_a_passage_without_tokens_teaches_nothing(self, tiny_tokenizer, tiny_model):
        model = ROMModel(ROMConfig(encoder=copy.deepcopy(tiny_model.config.encoder), heads={"masked_lm": {}}))
        task = self.task(tiny_tokenizer, "\u200b")  # BERT's normalizer drops it
        loss, _ = task.loss(model, task.collate(task.items, np.random.default_rng(0)))
        assert loss.item() == 0

    @pytest.mark.parametrize("kind", [MaskedLMTask, RecurringSpansTask])
    def test_tokenizers_without_a_mask_are_refused(self, tiny_tokenizer, kind):
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.mask_token = None
        collection = passages(TEXT)
        with pytest.raises(RecipeError, match=r"'tasks\.(masked_lm|recurring_spans)' needs a mask token"):
            kind(kind.Options(), list(collection.values()), collection, tokenizer, 1)


class TestInverseCloze:
    def task(self, tokenizer, **options):
        collection = passages(TEXT)
        task = InverseClozeTask(
            InverseClozeTask.Options(**options), list(collection.values()), collection, tokenizer, 1
        )
        return lambda seed: task.collate(task.items, np.random.default_rng(seed))

    @pytest.mark.parametrize(("kept_rate", "title_rate"), [(0, 0), (1, 0), (0, 1)])
    def test_each_sentence_asks_for_the_rest_of_its_passage(self, tiny_tokenizer, kept_rate, title_rate):
        collate, asked = self.task(tiny_tokenizer, kept_rate=kept_rate, title_rate=title_rate), set()
        for seed in range(20):
            features = collate(seed)
            query, passage = features["queries"]["input_ids"][0], features["passages"]["input_ids"][0]
            sentence = next(s for s in SENTENCES if tiny_tokenizer(s)["input_ids"] == query.tolist())
            asked.add(sentence)
            rest = " ".join(other for other in SENTENCES if kept_rate or other != sentence)
            title = "Title[SEP]" if title_rate else ""
            assert passage.tolist() == tiny_tokenizer(title + rest)["input_ids"]
        assert asked == set(SENTENCES)

    def test_a_tenth_of_the_sentences_stay(self, tiny_tokenizer):
        collate, whole = self.task(tiny_tokenizer, title_rate=0), len(tiny_tokenizer(TEXT)["input_ids"])
        stayed = [collate(seed)["passages"]["input_ids"].shape[1] == whole for seed in range(400)]
        assert np.mean(stayed) == pytest.approx(0.1, abs=0.04)

    def test_loss_equals_its_definition(self, make_task, tiny_model):
        task = make_task(InverseClozeTask, temperature=0.2)
        features = task.batch(0)
        with torch.no_grad():
            loss, metrics = task.loss(tiny_model, features)
            queries, texts = (
                tiny_model(**features[kind], head="retrieval")["embedding"].double() for kind in ("queries", "passages")
            )
        scores = (queries @ texts.T / 0.2).exp()
        expected = -(scores.diagonal() / scores.sum(-1)).log().mean().item()
        hits = (scores.argmax(-1) == torch.arange(len(scores))).double().mean().item()
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert metrics == pytest.approx({"contrast": expected, "recall@1": hits}, rel=1e-4)

    def test_needs_two_sentences(self):
        data = DataSet(passages("Only one sentence here.", TEXT, "One. Two."), [])
        assert [passage.id for passage in InverseClozeTask.items_of(data)] == ["1", "2"]


class TestRecurringSpansTask:
    def collate(self, tokenizer, seed, *texts, items=1, **options):
        collection = passages(*texts)
        task = RecurringSpansTask(
            RecurringSpansTask.Options(**options), list(collection.values()), collection, tokenizer, 1
        )
        return task.collate(task.items[:items], np.random.default_rng(seed))

    def test_a_masked_sentence_asks_for_the_span_in_the_rest(self, family):
        """Every family's tokenizer sees its own mask token."""
        tokenizer, asked = family.tokenizer, set()
        for seed in range(20):
            features = self.collate(tokenizer, seed, TEXT, negative_rate=0)
            (ids,), (starts, ends) = features["inputs"]["input_ids"].tolist(), features["targets"][:, 0]
            assert ids.count(tokenizer.mask_token_id) == 1
            assert ids.index(tokenizer.mask_token_id) < starts.nonzero()[0]
            (start,), (end,) = starts.nonzero().tolist(), ends.nonzero().tolist()
            found = decoded(tokenizer, ids[start[0] : end[0] + 1]).strip()
            assert found.lower() in ("marie curie", "paris")
            rest = decoded(tokenizer, ids).lower()
            assert rest.count(found.lower()) == 1
            asked.add((found.lower(), decoded(tokenizer, ids[: ids.index(tokenizer.mask_token_id)])))
            assert features["relevant"].tolist() == [1.0]
        assert len(asked) == 4  # both spans, in both of their sentences

    def test_all_occurrences_in_the_sentence_are_masked(self, tiny_tokenizer):
        text = "Ada met Ada. The lady was Ada."
        masks = set()
        for seed in range(10):
            ids = self.collate(tiny_tokenizer, seed, text, negative_rate=0)["inputs"]["input_ids"][0].tolist()
            masks.add(ids.count(tiny_tokenizer.mask_token_id))
        assert masks == {1, 2}

    @pytest.mark.parametrize("max_query_length", [1, 2, 3, 8, 24])
    def test_the_mask_is_never_clipped(self, family, max_query_length):
        """Wherever it stands in a sentence longer than a query may be."""
        tokenizer, options = family.tokenizer, {"max_query_length": max_query_length, "negative_rate": 0}
        words = [
            "extraordinary",
            "rivers",
            "carry",
            "grain",
            "past",
            "harbours,",
            "unaccountably,",
            "to",
            "far",
            "towns",
        ]
        for place in range(len(words) + 1):
            text = f"{' '.join([*words[:place], 'Pharos', *words[place:]])}. It was Pharos."
            for seed in range(4):
                ids = self.collate(tokenizer, seed, text, **options)["inputs"]["input_ids"][0].tolist()
                query = ids[1 : ids.index(tokenizer.sep_token_id)]
                assert query.count(tokenizer.mask_token_id) == 1
                assert len(query) <= max_query_length

    def test_queries_are_clipped_around_the_mask(self, tiny_tokenizer):
        text = "one two three four five six Pharos seven eight nine ten. So it was Pharos."
        queries = set()
        for seed in range(10):
            features = self.collate(tiny_tokenizer, seed, text, max_query_length=5, negative_rate=0)
            ids = features["inputs"]["input_ids"][0].tolist()
            queries.add(tiny_tokenizer.decode(ids[1 : ids.index(tiny_tokenizer.sep_token_id)]))
        assert "[MASK]" in " ".join(queries)
        assert any(query.split()[0] != "one" and query.split()[-1] != "ten" for query in queries)

    def test_negatives_lack_the_span(self, tiny_tokenizer):
        lacking, holding = "Bees dance in the hive.", "Marie Curie lived in Paris."
        options = {"negative_rate": 1.0}
        for seed in range(10):
            features = self.collate(tiny_tokenizer, seed, TEXT, holding, lacking, **options)
            assert features["relevant"].tolist() == [0.0]
            assert "bees dance" in decoded(tiny_tokenizer, features["inputs"]["input_ids"][0].tolist())
            assert features["targets"].nonzero()[:, 2].tolist() == [0, 0]
        features = self.collate(tiny_tokenizer, 0, TEXT, holding, **options)  # no other passage lacks it
        assert features["relevant"].tolist() == [1.0]

    def test_needs_a_recurring_span(self):
        data = DataSet(passages("No span comes again. Nothing does here.", TEXT), [])
        assert [passage.id for passage in RecurringSpansTask.items_of(data)] == ["1"]

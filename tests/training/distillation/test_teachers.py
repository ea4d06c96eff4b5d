"""What both distillations share: teachers, the divergence from them, limits of their options."""

from __future__ import annotations

import copy

import pytest
import torch

from rom_haystack.modeling import ROMConfig, ROMModel
from training.errors import RecipeError
from training.tasks.teachers import asked, divergence, load_reader


class TestDivergence:
    def test_equals_torchs_where_all_is_allowed(self):
        torch.manual_seed(0)
        target, logits = torch.randn(3, 5).softmax(-1), torch.randn(3, 5)
        expected = torch.nn.functional.kl_div(logits.log_softmax(-1), target, reduction="batchmean")
        torch.testing.assert_close(divergence(target, logits, torch.ones(3, 5, dtype=torch.bool)), expected)

    def test_what_is_not_allowed_takes_no_part(self):
        allowed = torch.tensor([[True, True, False], [True, False, False]])
        target = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
        logits = torch.tensor([[0.3, -0.2, 9.0], [1.0, 5.0, 5.0]], requires_grad=True)
        loss = divergence(target, logits, allowed)
        student = torch.tensor([0.3, -0.2]).softmax(-1)
        expected = (0.25 * (0.25 / student[0]).log() + 0.75 * (0.75 / student[1]).log()) / 2
        torch.testing.assert_close(loss, expected)
        loss.backward()
        assert torch.isfinite(logits.grad).all()
        assert (logits.grad[~allowed] == 0).all()


class TestTeachers:
    def test_what_can_not_be_loaded_or_does_not_read(self, tiny_model, tiny_tokenizer, tmp_path, no_hub):
        with pytest.raises(RecipeError, match=r"'tasks\.x' is 'no/such', which can't be loaded"):
            load_reader("no/such", "tasks.x", torch.device("cpu"))
        retriever = ROMModel(ROMConfig(encoder=tiny_model.config.encoder, heads={"retrieval": {}}))
        retriever.save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        with pytest.raises(RecipeError, match="does not read; name a ROM checkpoint with a 'reading' head"):
            load_reader(str(tmp_path), "tasks.x", torch.device("cpu"))

    @pytest.mark.parametrize("training", [True, False])
    def test_are_asked_without_dropout_and_left_as_they_were(self, tiny_model, training):
        model = copy.deepcopy(tiny_model).train(training)
        with asked(model) as reader:
            assert not reader.training
            assert not torch.is_grad_enabled()
        assert model.training is training
        assert torch.is_grad_enabled()

    @pytest.mark.parametrize(
        ("task", "options", "message"),
        [
            ("span_distillation", {}, "'tasks.span_distillation.teacher' is ''; it must be a ROM checkpoint or"),
            ("span_distillation", {"teacher": "x", "temperature": 0}, "temperature' is 0.0; it must be above 0"),
            ("span_distillation", {"teacher": "x", "relevance_weight": -1}, "relevance_weight' is -1"),
            ("span_distillation", {"teacher": "x", "stride": 400}, "stride' is 400"),
            ("reader_distillation", {"candidates": 1}, "candidates' is 1; it must be at least 2"),
            ("reader_distillation", {"temperature": 0}, "temperature' is 0.0"),
            ("reader_distillation", {"teacher": ""}, "teacher' is ''"),
            ("reader_distillation", {"teacher_temperature": -1}, "teacher_temperature' is -1"),
            ("reader_distillation", {"max_passage_length": 3}, "max_passage_length' is 3"),
        ],
    )
    def test_limits(self, make_recipe, task, options, message):
        with pytest.raises(RecipeError) as error:
            make_recipe("encoder", tasks={task: options})
        assert message in str(error.value)

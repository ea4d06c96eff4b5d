"""Parameters, counted from files, beside other designs."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from demo.core.model_size import BERT_BASE, ModelSize, bytes_per_number, designs, process_megabytes, size_of


def test_counts_are_the_models_own(tiny_checkpoint, tiny_model):
    counts = tiny_model.parameter_counts()
    size = size_of(str(tiny_checkpoint))
    assert (size.encoder, size.heads, size.total) == (counts["shared"], counts["heads"], counts["total"])
    three = designs([size], "torch-float32")[1]
    assert three.parameters == counts["three separate encoders"]
    assert three.megabytes == pytest.approx(three.parameters * 4 / 1e6)


def test_weights_in_several_files_and_numbers_that_are_no_parameters(tiny_checkpoint, tmp_path):
    folder = tmp_path / "parts"
    shutil.copytree(tiny_checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    save_file({name: weights[name] for name in names[::2]}, folder / "model-1.safetensors")
    others = {name: weights[name] for name in names[1::2]}
    save_file({**others, "encoder.position_ids": torch.arange(512)}, folder / "model-2.safetensors")
    assert size_of(str(folder)).total == size_of(str(tiny_checkpoint)).total


def test_a_graph_alone_has_nothing_to_count(tiny_checkpoint, tmp_path):
    folder = tmp_path / "graph"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "model.safetensors").unlink()
    (folder / "facts.json").write_text("{}")
    assert size_of(str(folder)) is None


def test_bert_base_is_counted_right():
    with torch.device("meta"):
        bert = AutoModel.from_config(AutoConfig.for_model("bert"), add_pooling_layer=False)
    assert sum(parameter.numel() for parameter in bert.parameters()) == BERT_BASE


def test_designs_at_the_type_of_the_engine():
    size = ModelSize("x", 1_000_000, 1000)
    shared, three, dpr = designs([size], "openvino-bfloat16")
    assert (shared.parameters, three.parameters) == (1_001_000, 3_001_000)
    assert dpr.parameters == 3 * BERT_BASE
    assert shared.megabytes == pytest.approx(2.002)


def test_two_models_are_both_counted():
    here, three, _ = designs([ModelSize("finds", 100, 0), ModelSize("reads", 120, 3)], "torch-float32")
    assert here.name.startswith("Two encoders")
    assert (here.parameters, three.parameters) == (223, 363)


@pytest.mark.parametrize(
    ("engine", "width"), [("torch-float32", 4), ("openvino-bfloat16", 2), ("onnx-int8", 1), ("torch-float16", 2)]
)
def test_bytes_per_number(engine, width):
    assert bytes_per_number(engine) == width


def test_this_process_takes_memory():
    assert process_megabytes() > 10

"""Training by 1.x's files and arguments: real, tiny runs, one of them in a process of its own."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from rom_haystack.compat import DensePassageRetriever, Document, FARMReader
from rom_haystack.compat import training as compat_training
from rom_haystack.compat.training import RUN_FOLDER, train_reader, train_retriever
from rom_haystack.modeling import bundled_checkpoints, load_checkpoint
from training.__main__ import app
from training.recipe import load_recipe

BUNDLED = bundled_checkpoints()["rom-minilm-l6"]
TEXTS = {
    "Speke named the lake in 1858.": ("Who named the lake?", "Speke"),
    "Papyrus grows along the banks.": ("What grows along the banks?", "Papyrus"),
    "Galileo drew the mountains.": ("Who drew the mountains?", "Galileo"),
}


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """Folder with `dpr.json` and `squad.json`."""
    contexts = [{"title": "T", "text": text, "passage_id": str(i)} for i, text in enumerate(TEXTS)]
    items = [
        {
            "question": question,
            "answers": [answer],
            "positive_ctxs": [context],
            "negative_ctxs": [],
            "hard_negative_ctxs": [contexts[i - 1]],
        }
        for i, (context, (question, answer)) in enumerate(zip(contexts, TEXTS.values(), strict=True))
    ]
    paragraphs = [
        {"context": text, "qas": [{"id": a, "question": q, "answers": [{"text": a, "answer_start": 0}]}]}
        for text, (q, a) in TEXTS.items()
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dpr.json").write_text(json.dumps(items))
    (folder / "squad.json").write_text(json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}]}))
    return folder


@pytest.fixture
def recorded(monkeypatch):
    """Pretend to train: keep the recipe, write a checkpoint with one file."""
    calls = []

    def run(command, root):
        folder = Path(command[command.index("--output") + 1])
        calls.append((load_recipe(folder / "recipe.yaml"), command, root))
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text("new")
        (folder / "metrics.jsonl").write_text("")
        return 0, ""

    monkeypatch.setattr(compat_training, "_run", run)
    return calls


def parts(folder):
    weights = load_file(folder / "model.safetensors")
    return {
        kind: {name: value for name, value in weights.items() if name.startswith(kind)}
        for kind in ("encoder", "heads.reading", "heads.retrieval")
    }


def moved(before, after):
    assert before.keys() == after.keys()
    return any(not torch.equal(before[name], after[name]) for name in before)


def in_this_process(command, _root):
    """Run the training module's command here, which is faster."""
    assert command[1:4] == ["-P", "-m", "training"]
    result = CliRunner().invoke(app, command[4:])
    return result.exit_code, result.output


def test_a_retriever_from_a_dpr_file(retriever, tiny_checkpoint, data_dir, tmp_path, monkeypatch, capfd):
    """In a process of its own, in a folder whose modules have nothing to do with it."""
    (tmp_path / "training.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    documents = [Document(text, meta={"name": "T"}) for text in TEXTS]
    first = retriever.embed_documents(documents)
    options = {"n_epochs": 1, "num_warmup_steps": 0, "learning_rate": 1e-3, "save_dir": "new"}
    retriever.train("data", "dpr.json", **options)
    assert "%|" in capfd.readouterr().err  # the progress
    output = tmp_path / "new" / "query_encoder"
    assert retriever.query_embedding_model == retriever.passage_embedding_model == str(output)
    assert set(load_checkpoint(output)[0].heads) == {"reading", "retrieval"}
    before, after = parts(tiny_checkpoint), parts(output)
    assert not moved(before["heads.reading"], after["heads.reading"])
    assert moved(before["encoder"], after["encoder"])
    assert not (output / RUN_FOLDER).exists()
    log = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 2  # three questions, two a step
    assert log[0]["retrieval/bank_contrast"] > 0
    trained = retriever.embed_documents(documents)
    assert not np.allclose(trained, first, atol=1e-4)
    loaded = DensePassageRetriever.load("new", None, use_gpu=False)
    assert loaded.query_embedding_model == loaded.passage_embedding_model
    np.testing.assert_allclose(loaded.embed_documents(documents), trained, atol=1e-5)
    loaded.close()


def test_a_reader_from_a_squad_file(reader, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(compat_training, "_run", in_this_process)
    monkeypatch.setenv("HOME", str(tmp_path))
    (data_dir / "squad.json.gz").write_bytes(gzip.compress((data_dir / "squad.json").read_bytes()))
    documents = [Document(text) for text in TEXTS]
    before = reader.predict("Who named the lake?", documents)["answers"]
    reader.train("~/data", "squad.json.gz", n_epochs=1, batch_size=2, learning_rate=1e-3, save_dir=tmp_path / "saved")
    assert load_recipe(tmp_path / "saved" / "recipe.yaml").warmup_ratio == 0.2
    after = reader.predict("Who named the lake?", documents)["answers"]
    assert [a.score for a in after] != pytest.approx([a.score for a in before], abs=1e-4)
    loaded = FARMReader(tmp_path / "saved", use_gpu=False)
    found = loaded.predict("Who named the lake?", documents)["answers"]
    assert [a.score for a in found] == pytest.approx([a.score for a in after], abs=1e-5)
    assert loaded.eval_on_file("~/data", "squad.json.gz")["Total_text_answer"] == 3
    loaded.close()


def test_values_out_of_range_are_named(reader, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(compat_training, "_run", in_this_process)
    with pytest.raises(RuntimeError, match="batch_size"):
        reader.train(data_dir, "squad.json", batch_size=0, save_dir=tmp_path / "saved")


def test_a_reader_in_place(tiny_checkpoint, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(compat_training, "_run", in_this_process)
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    (folder / "calibration.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    arguments = {"data_dir": data_dir, "train_filename": "squad.json", "batch_size": 1, "learning_rate": 1e-3}
    assert train_reader(folder, folder, **arguments, warmup_ratio=0.0) == folder
    before, after = parts(tiny_checkpoint), parts(folder)
    assert moved(before["heads.reading"], after["heads.reading"])
    assert list(before["heads.retrieval"]) == list(after["heads.retrieval"])
    assert set(load_checkpoint(folder)[0].heads) == {"reading", "retrieval"}
    assert not (folder / "calibration.json").exists()  # it was measured on other weights
    assert (folder / "notes.txt").read_text() == "mine"


def test_mistakes_in_the_data_come_with_the_last_lines(tiny_checkpoint, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(compat_training, "_run", in_this_process)
    (data_dir / "dpr.json").write_text('[{"question": "?"}]')
    with pytest.raises(RuntimeError, match="exit code 2") as error:
        train_retriever(tiny_checkpoint, tmp_path / "out", data_dir=data_dir, train_filename="dpr.json")
    assert "dpr.json, item 1: field 'positive_ctxs' must be a list, not NoneType" in str(error.value)
    assert "Traceback" not in str(error.value)
    assert not (tmp_path / "out" / "config.json").exists()


def test_arguments_become_a_recipe(tiny_checkpoint, recorded, tmp_path):
    train_retriever(
        BUNDLED,
        tmp_path / "a",
        data_dir=tmp_path,
        train_filename="t.json",
        epochs=3,
        batch_size=5,
        learning_rate=2e-5,
        max_query_length=33,
        max_passage_length=99,
        embed_title=False,
        warmup_steps=7,
        weight_decay=0.1,
        seed=4,
    )
    train_reader(
        tiny_checkpoint,
        tmp_path / "b",
        data_dir=tmp_path,
        train_filename="t.json",
        epochs=2,
        batch_size=6,
        max_length=200,
        stride=50,
        warmup_ratio=0.3,
        seed=5,
    )
    (retriever, command, root), (reader, *_) = recorded
    assert command[command.index("--data") + 1] == str(tmp_path)
    assert (root / "training" / "recipe.py").is_file()
    assert (retriever.encoder, retriever.data, retriever.epochs, retriever.seed) == (str(BUNDLED), "t.json", 3, 4)
    assert (retriever.learning_rate, retriever.warmup_steps, retriever.weight_decay) == (2e-5, 7, 0.1)
    options = retriever.task_options["retrieval"]
    assert (options.batch_size, options.max_query_length, options.max_passage_length) == (5, 33, 99)
    assert options.title_rate == 0.0
    assert (reader.encoder, reader.epochs, reader.warmup_ratio) == (str(tiny_checkpoint.resolve()), 2, 0.3)
    assert (retriever.name, reader.name) == ("a", "b")
    assert (reader.learning_rate, reader.seed, list(reader.task_options)) == (1e-5, 5, ["reading"])
    options = reader.task_options["reading"]
    assert (options.batch_size, options.max_length, options.stride) == (6, 200, 50)
    assert yaml.safe_load((tmp_path / "a" / "recipe.yaml").read_text())["epochs"] == 3


def test_what_has_no_effect_is_said(recorded, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    train_retriever(BUNDLED, tmp_path / "a", data_dir=tmp_path, train_filename="t.json")
    train_reader(BUNDLED, tmp_path / "b", data_dir=tmp_path, train_filename="t.json")
    assert not caplog.records
    train_retriever(
        BUNDLED,
        tmp_path / "c",
        data_dir=tmp_path,
        train_filename="t.json",
        dev_filename="d.json",
        num_positives=2,
        num_hard_negatives=0,
    )
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    for name in ("num_positives=2", "num_hard_negatives=0", "dev_filename='d.json'"):
        assert sum(name in message for message in said) == 1
    caplog.clear()
    train_reader(BUNDLED, tmp_path / "d", data_dir=tmp_path, train_filename="t.json", dev_filename="d.json")
    assert ["dev_filename='d.json'" in record.getMessage() for record in caplog.records] == [True]


def test_places_that_can_hold_no_checkpoint(recorded, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "facts.json").write_text("{}")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.json").write_text('{"mine": 1}')
    for name in ("file", "graph", "project"):
        with pytest.raises(ValueError, match=f"{name} is a file, or holds another config.json or exported graphs"):
            train_reader(BUNDLED, tmp_path / name, data_dir=tmp_path, train_filename="t.json")
    assert not recorded
    assert (tmp_path / "project" / "config.json").read_text() == '{"mine": 1}'


class TestTheTrainingModule:
    def test_is_that_of_the_checkout(self):
        assert compat_training._training_root() == Path(__file__).resolve().parents[2]

    def test_else_one_on_the_path(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            compat_training, "__file__", str(tmp_path / "site" / "rom_haystack" / "compat" / "training.py")
        )
        assert compat_training._training_root() == Path(__file__).resolve().parents[2]

    @pytest.mark.parametrize("other", [False, True], ids=["none", "another module of that name"])
    def test_its_absence_is_explained(self, tmp_path, monkeypatch, other):
        class Spec:
            submodule_search_locations = (str(tmp_path / "training"),)

        monkeypatch.setattr(
            compat_training, "__file__", str(tmp_path / "site" / "rom_haystack" / "compat" / "training.py")
        )
        monkeypatch.setattr(compat_training.importlib.util, "find_spec", lambda name: Spec if other else None)
        with pytest.raises(ImportError, match=r'checkout .* pip install -e "\.\[training\]"'):
            train_reader(BUNDLED, tmp_path / "out", data_dir=tmp_path, train_filename="t.json")
        assert not (tmp_path / "out").exists()


class TestTheProcess:
    def run(self, code):
        return compat_training._run([compat_training.sys.executable, "-c", code], Path.cwd())

    def test_shows_what_it_says_and_keeps_the_end(self, capsys):
        code = r"import sys; [print(i) for i in range(50)]; sys.stderr.write('a\rb\nÉ'); sys.exit(3)"
        returned, last = self.run(code)
        assert returned == 3
        assert last.splitlines()[-3:] == ["a", "b", "É"]
        assert len(last.splitlines()) == 20
        assert capsys.readouterr().err.startswith("0")

    def test_killed(self):
        returned, last = self.run(
            "import os, signal; print('so far', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert returned == -9
        assert last == "so far"

    def test_is_ended_with_its_caller(self, monkeypatch):
        started = []
        popen = compat_training.subprocess.Popen

        def remember(*args, **kwargs):
            started.append(popen(*args, **kwargs))
            return started[0]

        def interrupt(stream):
            raise KeyboardInterrupt

        monkeypatch.setattr(compat_training.subprocess, "Popen", remember)
        monkeypatch.setattr(compat_training, "_show", interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.run("import time; time.sleep(600)")
        assert started[0].returncode == -15


def test_a_killed_run_is_explained_and_continued(tiny_checkpoint, data_dir, tmp_path, monkeypatch):
    arguments = {"data_dir": data_dir, "train_filename": "squad.json", "batch_size": 1}

    def killed(command, root):
        assert in_this_process([*command, "--stop-after", "1"], root)[0] == 0
        return -9, "the last line"

    monkeypatch.setattr(compat_training, "_run", in_this_process)
    with monkeypatch.context() as patch:
        patch.setattr(compat_training, "_run", killed)
        with pytest.raises(RuntimeError, match=r"(?s)exit code -9.*calling again continues.*the last line"):
            train_reader(tiny_checkpoint, tmp_path / "out", **arguments)
    assert (tmp_path / "out" / RUN_FOLDER / "checkpoint-1").is_dir()
    output = train_reader(tiny_checkpoint, tmp_path / "out", **arguments)
    assert load_checkpoint(output)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3

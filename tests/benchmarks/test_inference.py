"""The inference benchmark with tiny models: its processes, its parts, its verdicts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForQuestionAnswering, PreTrainedTokenizerFast
from typer.testing import CliRunner

from benchmarks.answering import peak
from benchmarks.answering import stopwatch as stopwatch_module
from benchmarks.answering.growth import Points, joined
from benchmarks.answering.limit import Architecture, stage_figures
from benchmarks.answering.parts import PARTS, Measurement, Settings
from benchmarks.answering.plots import curve
from benchmarks.answering.prepare import Preparation, Sources, load_texts
from benchmarks.answering.process import Worker, workers
from benchmarks.answering.questions import Asked, ask_in_turn, question_figures
from benchmarks.answering.scores import agreement, answer_scores
from benchmarks.answering.service import Service
from benchmarks.answering.stopwatch import Stopwatch
from benchmarks.answering.systems import SYSTEMS, Job, chosen_systems
from benchmarks.answering.turns import Turns
from benchmarks.errors import JobError
from benchmarks.expectations import read_expectations
from benchmarks.figures import figure_at
from benchmarks.inference import EXPECTATIONS, app
from rom_haystack.inference import encoder as encoder_module
from rom_haystack.modeling import load_checkpoint
from training.data.dataset import Question

TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
PASSAGES = 90
WORDS = ("honey", "bee", "queen", "drone", "hive", "comb", "wax", "nectar", "pollen", "winter", "colony")
SETTINGS = Settings(
    questions=4,
    warm_up=1,
    adaptive=4,
    indexed=20,
    read=5,
    rounds=1,
    points=Points(questions=2, passages=(1, 3), words=(5, 9), cores=(1,), users=(1, 3)),
    settle=0,
)


_COALESCER = encoder_module.Coalescer


@pytest.fixture(scope="module", autouse=True)
def _coalescer_restored() -> Iterator[None]:
    """Measuring without it replaces it for the whole process, which here goes on."""
    yield
    encoder_module.Coalescer = _COALESCER


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SQuAD in small: invented passages, half of them with a question."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    passages = [
        {
            "id": f"p{row}",
            "title": "",
            "text": f"The {WORDS[row % len(WORDS)]} of {row} is {' '.join(rng.choice(WORDS, 12))}.",
        }
        for row in range(PASSAGES)
    ]
    questions = [
        {
            "id": f"q{row}",
            "question": f"What is {_topic(row)}?",
            "answers": [{"text": passages[row]["text"].split()[5]}],
            "passage_id": f"p{row}",
        }
        for row in range(PASSAGES // 2, PASSAGES)
    ]
    for name, rows in (("train", passages[: PASSAGES // 2]), ("dev", passages[PASSAGES // 2 :])):
        (folder / "squad" / name).mkdir(parents=True)
        _write_lines(folder / "squad" / name / "passages.jsonl", rows)
    _write_lines(folder / "squad" / "dev" / "questions.jsonl", questions)
    return folder


@pytest.fixture(scope="session")
def sources(
    tmp_path_factory: pytest.TempPathFactory,
    data: Path,
    tiny_checkpoint: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Sources:
    folder = tmp_path_factory.mktemp("inference")
    base = folder / "base"
    torch.manual_seed(4)
    AutoModel.from_config(AutoConfig.for_model("bert", vocab_size=len(tiny_tokenizer), **TINY)).save_pretrained(base)
    tiny_tokenizer.save_pretrained(base)
    model = folder / "model"
    model.mkdir()
    for file in tiny_checkpoint.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    at_once = {"level": -1e9, "slope": 0.0}
    stopping = {"passage_score_weight": 0.5, "settings": {"cautious": at_once, "fast": at_once}}
    (model / "calibration.json").write_text(json.dumps({"stopping": stopping}), encoding="utf-8")
    (folder / "work").mkdir()
    return Sources(data, base, str(model), folder / "cache", folder / "work", dpr_sizes=TINY)


@pytest.fixture(scope="session")
def preparation(sources: Sources) -> Preparation:
    passages = list(load_texts(sources.data, None, 1).passages.values())
    return Preparation(sources, passages, 1, lambda line: None)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny models gain nothing by more, and wait for each other on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # in processes of their own
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def within_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure without other processes: what they would import takes seconds each."""

    def start(self: Worker, job: Job) -> None:
        self.service = Service(job)

    def request(self: Worker, action: str, **arguments: Any) -> dict[str, Any]:
        reply = getattr(self.service, action)(**json.loads(json.dumps(arguments)))
        if action == "memory":
            reply = dict.fromkeys(reply, 1000)  # of one process, it tells nothing
        return {**json.loads(json.dumps(reply)), "idle_s": 1.0, "idle_cpu_s": 0.25}

    monkeypatch.setattr(Worker, "__init__", start)
    monkeypatch.setattr(Worker, "request", request)
    monkeypatch.setattr(Worker, "close", lambda self: None)
    monkeypatch.setattr(stopwatch_module, "setattr", monkeypatch.setattr, raising=False)  # watching is for good


@pytest.fixture
def results(sources: Sources, within_this_process: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All parts, of systems of every kind."""
    monkeypatch.setattr(peak, "_SIZES", (64,))
    systems = chosen_systems("rom,rom_torch,rom_cautious,rom_uncoalesced,stock,stock_faiss,dpr")
    measurement = Measurement(sources, SETTINGS, systems, lambda line: None)
    return {"engines": measurement.engines(), **{part: measurement.measure(part) for part in PARTS}}


def _topic(row: int) -> str:
    return f"The {WORDS[row % len(WORDS)]} of {row}"


def _write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def job(preparation: Preparation, name: str) -> Job:
    return Job(SYSTEMS[name], preparation.place(SYSTEMS[name]))


def test_every_part_gives_the_figures_that_are_expected_and_drawn(results, tmp_path):
    assert results["engines"] == dict.fromkeys(("rom", "rom_torch", "rom_cautious", "rom_uncoalesced"), "torch-float32")
    int8 = {"rom_openvino_int8": results["embeddings"]["rom"]}  # needs a package and an export
    results["embeddings"] |= int8
    assert {e.name for e in read_expectations(EXPECTATIONS) if e.verdict(results) == "not measured"} == set()

    for part in PARTS:
        assert "NaN" not in json.dumps(results[part])
    assert "rom_uncoalesced" not in results["questions"]
    assert {name: figures["latency"]["count"] for name, figures in results["questions"].items()} == dict.fromkeys(
        ("rom", "rom_torch", "rom_cautious", "stock", "stock_faiss", "dpr"), 4
    )
    assert results["questions"]["rom"]["agreement"] == 1
    assert results["start"]["rom_haystack"]["import_of_torch"] is False
    assert set(results["indexing"]["stock"]["by_batch_size"]) == {"8", "16", "64", "128"}
    assert results["embeddings"]["rom"]["cosine_min"] == pytest.approx(1, abs=1e-3)
    assert results["embeddings"]["rom"]["recall_at_20_change"] == 0
    assert results["reading"]["rom"]["f1_change"] == 0
    assert results["adaptive"]["rom"]["windows_per_question"] == 10
    assert results["adaptive"]["rom_cautious"]["windows_per_question"] == 2  # it stops after the first two passages
    stages = results["limit"]["question"]["rom"]
    assert {"embed_tokenise", "embed_forward", "search", "read_tokenise", "read_forward", "read_decode"} < set(stages)
    assert sum(stage["share"] for stage in stages.values()) == pytest.approx(1)
    assert stages["read_forward"]["inputs"] == 10
    assert results["limit"]["document"]["rom"]["forward"]["inputs"] == 1
    assert list(results["growth"]["passages"]["stock_faiss"]) == ["1", "3"]
    assert results["growth"]["users"]["rom_uncoalesced"]["3"]["count"] == 12
    assert results["growth"]["users"]["rom"]["3"]["failures"] == {}

    file, figure = tmp_path / "results.json", tmp_path / "growth.svg"
    file.write_text(json.dumps(results), encoding="utf-8")
    done = CliRunner().invoke(app, ["plot", str(file), "--output", str(figure)])
    assert done.exit_code == 0, done.output
    assert figure.read_text(encoding="utf-8").startswith("<?xml")
    assert list(curve(results, "words", "rom", "p50_ms")) == [5, 9]
    assert curve(results, "words", "rom_uncoalesced", "p50_ms") == {}


def test_processes_answer_alike_and_tell_their_memory(preparation, sources):
    """Two real processes: ROM's, and the stock components'."""
    texts = load_texts(sources.data, None, 1)
    jobs = {name: job(preparation, name) for name in ("rom_torch", "stock")}
    asked = ask_in_turn(jobs, texts.questions[:4], Turns(1, 0), warm_up=1)
    figures = question_figures(asked, texts.questions[1:4])
    assert figures["rom_torch"]["latency"]["count"] == 3
    for name in jobs:
        assert figures[name]["memory"]["resident"] > figures[name]["memory"]["anonymous"] > 10_000_000
        assert 0 <= figures[name]["idle_cpu_share"] < 4
    against = figures["rom_torch"]["against"]["stock"]
    assert against["memory"] == pytest.approx(
        figures["rom_torch"]["memory"]["resident"] / figures["stock"]["memory"]["resident"]
    )
    assert against["p50"] == pytest.approx(
        figures["stock"]["latency"]["p50_ms"] / figures["rom_torch"]["latency"]["p50_ms"]
    )
    assert all(best["text"] in texts.passages[best["document"]].text for best in asked["stock"].best)


def test_a_process_reports_errors_and_goes_on(preparation, tmp_path):
    limited = replace(job(preparation, "rom_torch"), cores=1)
    with workers({"rom": limited}) as processes:
        process = processes["rom"]
        with pytest.raises(JobError, match=r"(?s)failed during 'embed'.*must be a string"):
            process.request("embed", texts=[1])
        process.request("embed", texts=["A bee.", "A hive, and more of it."], file=str(tmp_path / "vectors.npy"))
        assert np.load(tmp_path / "vectors.npy").shape == (2, TINY["hidden_size"])
        best = process.request("read", question="What is wax?", texts=["Wax is made by bees."])["best"]
        assert "Wax is made by bees."[best["start"] : best["end"]] == best["text"]


def test_a_process_that_ends_says_why(preparation):
    broken = replace(job(preparation, "rom_torch"), cores="two")
    with workers({"rom": broken}) as processes, pytest.raises(JobError, match=r"(?s)ended.*TypeError"):
        processes["rom"].request("memory")


def test_the_peer_reads_with_the_same_weights(preparation, sources):
    place = preparation.place(SYSTEMS["stock"])
    peer = AutoModelForQuestionAnswering.from_pretrained(place.reader).eval()
    model, tokenizer = load_checkpoint(sources.model)
    inputs = tokenizer("What is wax?", "Wax is made by bees.", return_tensors="pt")
    with torch.inference_mode():
        ours, theirs = model(**inputs, head="reading"), peer(**inputs)
    assert peer.dtype == torch.float32
    assert torch.allclose(ours["start_logits"], theirs.start_logits, atol=1e-5)
    assert torch.allclose(ours["end_logits"], theirs.end_logits, atol=1e-5)


def test_dpr_has_three_encoders_of_the_given_size(preparation):
    place = preparation.place(SYSTEMS["dpr"])
    folders = {place.embedder, place.document_embedder, place.reader}
    weights = {(Path(folder) / "model.safetensors").read_bytes() for folder in folders}
    assert len(weights) == 3
    assert AutoConfig.from_pretrained(place.embedder).hidden_size == place.dim == TINY["hidden_size"]


def test_stores_and_models_are_made_once(preparation):
    store = Path(preparation.place(SYSTEMS["rom"]).store)
    written = {file: file.stat().st_mtime_ns for file in store.iterdir()}
    assert preparation.place(SYSTEMS["rom_torch"]).store == str(store)
    assert {file: file.stat().st_mtime_ns for file in store.iterdir()} == written


def test_a_limit_of_passages_leaves_questions_about_them(data):
    texts = load_texts(data, 20, 1)
    assert len(texts.passages) == 20
    assert len(texts.questions) == 20
    assert {question.passage_id for question in texts.questions} <= set(texts.passages)
    again, other = load_texts(data, 20, 1), load_texts(data, 20, 2)
    assert texts.questions == again.questions != other.questions


def test_every_turn_has_everyone_once_in_changing_order():
    turns = Turns(3, 0)
    orders = [list(turns.order("abcde")) for _ in range(20)]
    assert {tuple(sorted(order)) for order in orders} == {tuple("abcde")}
    assert len({tuple(order) for order in orders}) > 10


def test_stages_add_up_to_the_whole(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    stopwatch = Stopwatch()

    class Engine:
        def outer(self) -> str:
            return self.inner([7, 8])

        def inner(self, inputs: list[int]) -> str:
            return f"{inputs}"

    monkeypatch.setattr(stopwatch_module, "setattr", monkeypatch.setattr, raising=False)
    stopwatch.watch(Engine, "outer", "read")
    stopwatch.watch(Engine, "inner", "forward", lambda _, inputs: inputs)
    with stopwatch.stage("whole"), stopwatch.stage("whole"):
        assert Engine().outer() == "[7, 8]"
    # one tick between two readings of the clock: into read, into forward, out of it, out of read, out of the whole
    assert stopwatch.seconds == {"whole": 2, "whole/read": 2, "whole/read/forward": 1}
    assert {path: lengths for path, lengths in stopwatch.lengths.items() if lengths} == {"whole/read/forward": [7, 8]}
    stopwatch.reset()
    assert not stopwatch.seconds


def test_stages_are_summed_up_by_name():
    stages = {
        "seconds": {"whole": 1.0, "whole/read": 2.0, "whole/read/decode": 1.0, "whole/read/decode/forward": 4.0},
        "lengths": {"whole": [], "whole/read/decode/forward": [10, 20]},
    }
    architecture = Architecture(layers=1, width=2, inner_width=4)
    figures = stage_figures(stages, 2, architecture, {"float32": 1000.0})
    assert {name: (figure["ms"], figure["share"]) for name, figure in figures.items()} == {
        "rest": (500, 0.125),
        "read": (1000, 0.25),
        "read_decode": (500, 0.125),
        "read_forward": (2000, 0.5),
    }
    # 64 per token, as 4 * 2 * 2 + 2 * 2 * 4 weights are multiplied and added; 8 per pair of tokens
    flops = 30 * 64 + (100 + 400) * 8
    assert architecture.flops([10, 20]) == flops
    assert figures["read_forward"]["tokens"] == 15
    assert figures["read_forward"]["of_peak"] == {"float32": flops / 4 / 1000}


def test_the_architecture_is_read_from_the_checkpoint(tiny_checkpoint, tmp_path):
    assert Architecture.of(tiny_checkpoint) == Architecture(layers=2, width=64, inner_width=128)
    (tmp_path / "config.json").write_text('{"encoder": {"dim": 3}}', encoding="utf-8")
    with pytest.raises(ValueError, match="lacks one of num_hidden_layers"):
        Architecture.of(tmp_path)


def test_counted_operations_are_those_of_the_encoder(tiny_checkpoint):
    """Against PyTorch's own count, of the encoder alone, in an attention that it can count."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    model = load_checkpoint(tiny_checkpoint, model_kwargs={"attn_implementation": "eager"})[0]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.encoder(input_ids=torch.ones(1, 50, dtype=torch.long), attention_mask=torch.ones(1, 50))
    assert Architecture.of(tiny_checkpoint).flops([50]) == counter.get_total_flops()


def test_scores_and_agreement():
    questions = [Question("1", "?", ("the hive",), "p"), Question("2", "?", ("wax",), "p")]
    right = {"text": "hive", "document": "p", "start": 3, "end": 7}
    assert answer_scores(questions, [right, None]) == {"exact_match": 50, "f1": 50}
    elsewhere = {**right, "start": 13, "end": 17}
    assert agreement([right, None, right], [right, None, elsewhere]) == pytest.approx(2 / 3)


def test_figures_hold_rom_against_every_peer():
    def asked(seconds: float, memory: int) -> Asked:
        taken = {"resident": memory, "anonymous": memory // 2, "added": memory - 20}
        return Asked(seconds=[seconds] * 3, best=[None] * 3, memory=taken, idle_s=4, idle_cpu_s=1)

    questions = [Question("1", "?", ("wax",), "p")] * 3
    figures = question_figures({"rom": asked(0.01, 100), "stock": asked(0.06, 300), "dpr": asked(0.5, 2000)}, questions)
    assert figures["rom"]["against"] == {
        "stock": pytest.approx({"p50": 6, "p95": 6, "f1_change": 0, "memory": 1 / 3, "added_memory": 2 / 7}),
        "dpr": pytest.approx({"p50": 50, "p95": 50, "f1_change": 0, "memory": 1 / 20, "added_memory": 4 / 99}),
    }
    assert figures["rom"]["idle_cpu_share"] == 0.25
    assert "against" not in figures["stock"]


def test_passages_are_joined_to_their_length():
    assert joined(["a b c", "d e", "f"], 1, 2, 3) == ["d e", "f a", "b c"]


def test_mistakes_are_named(data, tmp_path):
    where = ["run", "--output", str(tmp_path / "r.json"), "--data", str(data), "--base", ".", "--cache", str(tmp_path)]
    for mistake, message in (
        (["--systems", "rom,elastic"], "There is no system 'elastic'"),
        (["--parts", "speed"], "There is no part 'speed'"),
    ):
        done = CliRunner().invoke(app, [*where, *mistake])
        assert done.exit_code == 2
        assert message in done.output
    with pytest.raises(ValueError, match="take more passages"):
        load_texts(data, 0, 1)


def test_results_are_kept_and_checked(sources, within_this_process, tmp_path):
    output = tmp_path / "results.json"
    where = ["--data", str(sources.data), "--base", str(sources.base), "--cache", str(sources.cache)]
    small = ["--model", sources.model, "--work", str(sources.work), "--systems", "rom_torch", "--questions", "2"]
    for part in ("questions", "reading"):
        done = CliRunner().invoke(app, ["run", "--output", str(output), *where, *small, "--parts", part])
        assert done.exit_code == 0, done.output
    results = json.loads(output.read_text(encoding="utf-8"))
    assert figure_at(results, "questions.rom_torch.latency.count") == 2
    assert figure_at(results, "reading.rom_torch.f1_change") == 0
    assert results["settings"]["model"] == sources.model
    done = CliRunner().invoke(app, ["run", "--output", str(output), *where, *small, "--seed", "5"])
    assert done.exit_code == 2
    assert "other settings" in done.output
    expectations = tmp_path / "expectations.yaml"
    expectations.write_text(
        "- {name: asked, figure: questions.rom_torch.latency.count, at_least: 2}\n", encoding="utf-8"
    )
    done = CliRunner().invoke(app, ["check", str(output), "--expectations", str(expectations)])
    assert done.exit_code == 0, done.output
    assert "met" in done.output


def test_a_plot_without_growth_says_so(tmp_path):
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    done = CliRunner().invoke(app, ["plot", str(tmp_path / "results.json"), "--output", str(tmp_path / "growth.svg")])
    assert done.exit_code == 2
    assert "no growth" in done.output

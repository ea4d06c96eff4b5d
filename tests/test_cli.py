import json
import logging
import os
import shutil
import subprocess
import sys
from functools import wraps

import pytest
import pytest_socket
from filelock import FileLock
from fpdf import FPDF
from haystack import Document, ExtractedAnswer, Pipeline, SuperComponent
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from rich.text import Text
from typer.testing import CliRunner

from rom_haystack import ROMExtractiveQA, ROMHybridRetriever, __version__, cli
from rom_haystack.cli import INTERRUPTED, MISTAKE, NO_ANSWER, NOTHING_INDEXED, app
from rom_haystack.inference import selection
from rom_haystack.inference.choices import Choice
from rom_haystack.inference.loading import default_dtype, preparation
from rom_haystack.library import Library
from rom_haystack.modeling import DEFAULT_CHECKPOINT


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what the command sets is gone afterwards
    return tmp_path / "home"


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "birds.md").write_text("# Birds [of] prey\n\nThe kestrel hovers [bold]high[/bold] above the meadow.")
    pdf = FPDF()
    pdf.set_font("Helvetica")
    for text in ("The heron waits beside the river. " * 8, "The owl hunts at night. " * 8):
        pdf.add_page()
        pdf.multi_cell(0, text=text)
    pdf.output(str(folder / "guide.pdf"))
    return folder


@pytest.fixture
def rom(tiny_checkpoint):
    def rom(command, *arguments):
        return CliRunner().invoke(app, [command, *map(str, arguments), "--model", str(tiny_checkpoint)])

    return rom


@pytest.fixture
def answers(monkeypatch):
    """Set what the pipeline returns."""

    def answers(*found, documents=()):
        @wraps(ROMExtractiveQA.run)  # Haystack compares the signatures of run and run_async
        def run(*_, **__):
            return {"answers": list(found), "documents": list(documents)}

        monkeypatch.setattr(ROMExtractiveQA, "run", run)

    return answers


def make_answer(content, data, start, **meta):
    """Make an answer whose sentence is the whole content."""
    page = {"answer_page_number": meta["page_number"]} if "page_number" in meta else {}
    span = ExtractedAnswer.Span(start, start + len(data))
    return ExtractedAnswer(
        query="?",
        score=0.8567,
        data=data,
        document=Document(content=content, meta=meta),
        context=content,
        document_offset=span,
        context_offset=span,
        meta=page,
    )


def test_ask_json_obeys_schema_and_offset_law(rom, docs):
    result = rom("ask", "Where does the heron wait?", "--docs", docs, "--json", "--top-k", 3, "--passages", 2)
    report = json.loads(result.stdout)
    assert set(report) == {"question", "answered", "answers", "passages", "model", "index"}
    assert result.exit_code == (0 if report["answered"] else NO_ANSWER)
    assert len(report["passages"]) == 2
    assert set(report["passages"][0]) == {"id", "title", "file_path", "page", "score"}
    assert report["index"]["added"] == ["birds.md", "guide.pdf"]
    assert report["index"]["skipped"] == []
    assert report["answered"] is bool(report["answers"])
    for answer in report["answers"]:
        assert answer["document"]["content"][answer["start"] : answer["end"]] == answer["answer"]
        assert answer["sentence"][answer["sentence_start"] : answer["sentence_end"]] == answer["answer"]


def test_every_answer_obeys_the_offset_law(rom, docs, monkeypatch):
    """The tiny model's order is random, so let every candidate through."""
    run = ROMExtractiveQA.run

    @wraps(run)
    def quotes_only(self, **kwargs):
        result = run(self, **kwargs)
        return {**result, "answers": [answer for answer in result["answers"] if answer.data is not None]}

    monkeypatch.setattr(ROMExtractiveQA, "run", quotes_only)
    result = rom("ask", "What hunts at night?", "--docs", docs, "--json", "--top-k", 30)
    found = json.loads(result.stdout)["answers"]
    assert result.exit_code == 0
    assert len(found) > 5
    pages = {"The heron": 1, "The owl h": 2}
    for answer in found:
        document = answer["document"]
        assert document["content"][answer["start"] : answer["end"]] == answer["answer"]
        assert answer["sentence"][answer["sentence_start"] : answer["sentence_end"]] == answer["answer"]
        if document["file_path"] == "guide.pdf":
            assert pages[answer["sentence"][:9]] == document["page"]
        else:
            assert document["page"] is None


def test_answers_are_shown_with_place_and_score(rom, docs, answers):
    answers(
        make_answer("Owls [b]hunt[/b].", "hunt", 8, title="On [i]owls", file_path="a.pdf", page_number=7),
        ExtractedAnswer(query="?", score=0.1),
        make_answer("No page.", "page", 3, title="T", file_path="b.txt"),
    )
    result = rom("ask", "What do owls do?", "--docs", docs)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1. hunt  86%",
        "   Owls [b]hunt[/b].",
        "   On [i]owls, a.pdf, page 7",
        "",
        "2. page  86%",
        "   No page.",
        "   T, b.txt",
    ]


def test_the_answer_is_highlighted_by_offset(monkeypatch):
    printed = []
    monkeypatch.setattr("rich.console.Console.print", lambda _self, text="", **_: printed.append(text))
    cli.documents._show_answers([make_answer("to be or not to be", "to be", 13, title="T")])
    sentence = next(text for text in printed if isinstance(text, Text) and "not" in text.plain)
    highlighted = [sentence.plain[span.start : span.end] for span in sentence.spans]
    assert highlighted == ["to be"]
    assert sentence.spans[0].start == 3 + 13  # the second "to be", behind the indent


def test_documents_cannot_command_the_terminal(rom, docs, answers):
    answers(make_answer("\x1b[2Jevil\x07 \u202etext\nnext", "evil\x07 \u202etext", 4, title="\x1b]0;x\x07"))
    result = rom("ask", "?", "--docs", docs)
    assert not set("\x1b\x07\u202e") & set(result.stdout)
    assert "evil\ufffd text next" in result.stdout


def test_no_answer_names_the_nearest_passages(rom, docs, answers):
    near = [Document(content=text, meta={"title": "Near", "file_path": "n.txt"}) for text in "ab"]
    answers(ExtractedAnswer(query="?", score=0.9), make_answer("text", "text", 0), documents=near)
    result = rom("ask", "?", "--docs", docs)
    assert result.exit_code == NO_ANSWER
    assert result.stdout.splitlines() == ["No answer found in these documents.", "Nearest passages:", "   Near, n.txt"]
    report = json.loads(rom("ask", "?", "--docs", docs, "--json").stdout)
    assert (report["answered"], report["answers"]) == (False, [])
    assert len(report["passages"]) == 2


def test_index_reports(rom, docs, tmp_path):
    (docs / "junk [x].txt").write_bytes(b"\0\1\2")
    first = rom("index", docs, "--index", tmp_path / "place")
    second = json.loads(rom("index", docs, "--index", tmp_path / "place", "--json").stdout)
    assert first.exit_code == 0
    assert "Files: 2 added, 1 skipped. Passages: 2." in first.stdout
    assert "Skipped junk [x].txt: looks like binary data, not text." in first.stderr
    assert second["path"] == str(tmp_path / "place")
    assert second["unchanged"] == ["birds.md", "guide.pdf"]
    assert second["skipped"] == [{"file": "junk [x].txt", "reason": "looks like binary data, not text"}]
    assert (second["added"], second["replaced"], second["removed"], second["passages"]) == ([], [], [], 2)


def test_damage_is_explained_and_repaired(rom, docs, home):
    assert rom("index", docs).exit_code == 0
    (vectors,) = home.glob("*/store/vectors-1.bin")
    vectors.write_bytes(b"nothing of a store")
    for command in (("ask", "Who?", "--docs"), ("index",)):
        result = rom(*command, docs)
        assert result.exit_code == MISTAKE
        assert f"{vectors} is damaged" in result.stderr
        assert "`rom index FOLDER --repair`" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    result = rom("index", docs, "--repair")
    assert result.exit_code == 0
    found, kept = result.stderr.splitlines()
    assert found.startswith(f"Found damage: {vectors} is damaged")
    assert kept.startswith(f"Kept 0 passages. The damaged files are in {vectors.parents[1] / 'store.damaged-1'}; ")
    assert "Files: 2 replaced. Passages: 2." in result.stdout
    assert rom("ask", "Who?", "--docs", docs).exit_code in {0, NO_ANSWER}
    assert rom("index", docs, "--repair").stderr == "Found no damage.\n"


def test_a_repair_is_reported_as_json(rom, docs, home):
    assert json.loads(rom("index", docs, "--json").stdout)["repaired"] is None
    whole = json.loads(rom("index", docs, "--repair", "--json").stdout)
    assert whole["repaired"] == {"problems": [], "kept": 2, "damaged_folder": None}
    (database,) = home.glob("*/store/documents.sqlite")
    database.write_bytes(b"nothing of a store" * 1000)
    mended = json.loads(rom("index", docs, "--repair", "--json").stdout)
    assert mended["repaired"]["kept"] == 0
    assert str(database) in mended["repaired"]["problems"][0]
    assert mended["repaired"]["damaged_folder"] == str(database.parents[1] / "store.damaged-1")
    assert (mended["rebuilt"], mended["added"]) == ("the index was damaged", ["birds.md", "guide.pdf"])


def test_questions_are_answered_while_another_process_indexes(rom, docs, home):
    assert rom("index", docs).exit_code == 0
    (index,) = home.iterdir()
    (docs / "new.txt").write_text("This is not indexed yet.")
    with FileLock(index / "lock"):
        asked = rom("ask", "What hunts at night?", "--docs", docs, "--json")
        indexed = rom("index", docs)
    report = json.loads(asked.stdout)
    assert asked.exit_code in {0, NO_ANSWER}
    assert len(report["passages"]) == report["index"]["passages"] == 2
    assert report["index"]["stale"].startswith("Another process is updating the index")
    assert "Until then, answers come from what the index holds." in asked.stderr
    assert (indexed.exit_code, "Another process" in indexed.stderr) == (MISTAKE, True)


def test_info_describes_the_model(tiny_checkpoint):
    result = CliRunner().invoke(app, ["info", str(tiny_checkpoint), "--json"])
    facts = json.loads(result.stdout)
    parameters = facts["parameters"]
    assert (facts["encoder"], facts["layers"], facts["hidden_size"]) == ("bert", 2, 64)
    assert facts["path"] == str(tiny_checkpoint.resolve())
    assert facts["heads"] == {"retrieval": {"pooling": "mean"}, "reading": {}}
    assert parameters["total"] == parameters["shared"] + parameters["heads"]
    assert parameters["three_separate_encoders"] == 3 * parameters["shared"] + parameters["heads"]
    assert set(facts["versions"]) == {"rom-haystack", "haystack", "torch", "transformers"}
    shown = CliRunner().invoke(app, ["info", str(tiny_checkpoint)])
    assert shown.exit_code == 0
    assert f"{parameters['shared']:,}" in shown.stdout
    assert "bert, 2 layers, 64 wide" in shown.stdout


class TestBackendInInfo:
    def info(self, checkpoint):
        facts = json.loads(CliRunner().invoke(app, ["info", str(checkpoint), "--json"]).stdout)
        shown = CliRunner().invoke(app, ["info", str(checkpoint)]).stdout
        return facts["backend"], next(line for line in shown.splitlines() if line.startswith("Backend"))

    def test_what_auto_means_and_why(self, tiny_checkpoint):
        facts, shown = self.info(tiny_checkpoint)
        assert facts == {"auto": "torch-float32", "reason": "ROM_BACKEND names it"}
        assert shown == "Backend        torch-float32, as ROM_BACKEND names it"

    def test_a_choice_that_is_still_to_be_made_is_not_made(self, tiny_checkpoint, monkeypatch, home):
        monkeypatch.delenv("ROM_BACKEND")
        facts, shown = self.info(tiny_checkpoint)
        assert facts == {"auto": None, "reason": "engines are measured when the model is first used"}
        assert shown == "Backend        not chosen yet: engines are measured when the model is first used"
        assert not (home / "exports").exists()


class TestPreparation:
    """The first use of a model, when engines are exported for and measured."""

    @pytest.fixture(autouse=True)
    def measured(self, monkeypatch):
        """Stand in for the measurement, which chooses torch."""
        monkeypatch.delenv("ROM_BACKEND")

        def measure(spec, candidates):
            preparation.info("Preparing %s for this machine, once …", spec.model)
            preparation.info("Exporting %s.", spec.model)
            return Choice("torch", "float32", "it was measured"), {}

        monkeypatch.setattr(selection, "_measure", measure)

    def test_the_user_is_told_once(self, rom, docs, tiny_checkpoint):
        first = rom("ask", "What hunts at night?", "--docs", docs, "--json")
        again = rom("ask", "What hunts at night?", "--docs", docs, "--json")
        assert first.stderr == f"Preparing {tiny_checkpoint.resolve()} for this machine, once …\n"
        assert again.stderr == ""
        assert json.loads(first.stdout)["question"] == json.loads(again.stdout)["question"]

    def test_indexing_tells_too(self, rom, docs, tiny_checkpoint):
        assert "Preparing" in rom("index", docs).stderr
        assert rom("index", docs).stderr == ""

    def test_nothing_stays_behind(self, rom, docs):
        rom("index", docs)
        assert not preparation.handlers
        assert (preparation.level, preparation.propagate) == (logging.NOTSET, True)


class TestExport:
    @pytest.fixture
    def questions(self, tmp_path):
        folder = tmp_path / "asked"
        folder.mkdir()
        (folder / "a.md").write_text("The kestrel hovers high above the meadow.\n\nThe heron waits beside the river.\n")
        (folder / "b.md").write_text("The owl hunts at night.\n")
        rows = [("a.md", "What hovers?", "The kestrel"), ("b.md", "When does the owl hunt?", "at night")]
        table = folder / "questions.tsv"
        table.write_text("\n".join("\t".join(row) for row in [("file", "question", "answer"), *rows]))
        return table

    def test_into_a_folder_that_is_a_model_then(self, tiny_checkpoint, tmp_path, questions, docs):
        place = tmp_path / "exported"
        arguments = ["export", str(tiny_checkpoint), "--output", str(place), "--questions", str(questions), "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        fidelity = report["fidelity"]
        assert report["graph"] == str(place / "openvino.xml")
        assert report["bytes"] == sum((place / name).stat().st_size for name in ("openvino.xml", "openvino.bin"))
        assert report["engine"] == f"openvino-{default_dtype('openvino')}"
        assert (report["reference"], report["questions"], report["passages"]) == ("torch-float32", 2, 3)
        assert fidelity["cosine_min"] > 0.99
        assert fidelity["speedup"] == fidelity["tokens_per_second"] / fidelity["reference_tokens_per_second"]
        assert fidelity["f1_change"] == fidelity["f1"] - fidelity["reference_f1"]
        assert report["faithful"] is (fidelity["cosine_mean"] >= 0.999 and fidelity["span_agreement"] >= 0.98)
        assert not list(place.glob("*.safetensors"))
        asked = CliRunner().invoke(
            app, ["ask", "What hunts?", "--docs", str(docs), "--model", str(place), "--json"], env={"ROM_BACKEND": ""}
        )
        assert asked.exit_code in {0, NO_ANSWER}
        assert asked.stderr == ""

    def test_into_the_cache_for_people(self, tiny_checkpoint, questions, home):
        result = CliRunner().invoke(
            app, ["export", str(tiny_checkpoint), "--backend", "onnx", "--questions", str(questions)]
        )
        assert result.exit_code == 0
        (graph,) = home.glob("exports/*/model.onnx")
        rows = {line[:15].strip(): line[15:] for line in result.stdout.splitlines()}
        assert rows["Graph"].startswith(str(graph))
        assert rows["Engine"] == "onnx-float32, compared with torch-float32 on 2 questions about 3 passages"
        assert rows["Embeddings"].startswith("cosine 1.00000 on average, 1.00000 at least; 100.0% of")
        assert rows["Answers"].startswith("100.0% are the same; exact match")
        assert "(+0.0 points), F1" in rows["Answers"]
        assert rows["Faithful"] == "yes"

    def test_mistakes(self, tiny_checkpoint, tmp_path, questions, monkeypatch):
        def export(*arguments):
            return CliRunner().invoke(app, ["export", str(tiny_checkpoint), *map(str, arguments)])

        (tmp_path / "file").write_text("")
        questions.with_name("one.tsv").write_text("file\tquestion\tanswer\na.md\tWhat?\tThe heron\n")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        for message, result in {
            "missing.tsv can't be read": export("--questions", tmp_path / "missing.tsv"),
            "pip install 'rom-haystack[onnx]'": export("--backend", "onnx", "--questions", questions),
            "asks about a single file": export("--int8", "--questions", questions.with_name("one.tsv")),
            "'~nosuchuser/x'": export("--output", "~nosuchuser/x"),
            "file": export("--output", tmp_path / "file", "--questions", questions),
        }.items():
            assert result.exit_code == MISTAKE, message
            assert message in result.stderr.splitlines()[-1]
            assert len(result.stderr.splitlines()) <= 2  # before it, perhaps, what was begun
            assert result.stdout == ""


def test_an_engine_that_is_not_installed_is_a_mistake(rom, docs, monkeypatch):
    monkeypatch.setenv("ROM_BACKEND", "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = rom("index", docs)
    assert (result.exit_code, result.stdout) == (MISTAKE, "")
    assert "pip install 'rom-haystack[openvino]'" in result.stderr
    monkeypatch.setenv("ROM_BACKEND", "jax")
    assert "ROM_BACKEND is 'jax'" in rom("index", docs).stderr


def test_mistakes_are_explained_without_a_traceback(rom, docs, tmp_path):
    mistakes = {
        "The question is empty": rom("ask", "  ", "--docs", docs),
        "There is no folder": rom("ask", "Who?", "--docs", docs / "missing"),
        "is a file; give the folder": rom("index", docs / "birds.md"),
        "holds other files": rom("index", docs, "--index", docs),
        "is no ROM checkpoint": CliRunner().invoke(app, ["ask", "Who?", "--docs", str(docs), "--model", str(tmp_path)]),
        "No checkpoint 'no-such-model'": CliRunner().invoke(app, ["info", "no-such-model"]),
        "greater than or equal to 1": rom("ask", "Who?", "--docs", docs, "--top-k", "0"),
    }
    for message, result in mistakes.items():
        assert result.exit_code == MISTAKE, message
        assert message in result.stderr
        assert "Traceback" not in result.output
        assert result.stdout == ""


def test_paths_that_can_not_be_are_mistakes(rom, docs):
    long = "x" * 300
    ask = ("ask", "Who?", "--docs")
    mistakes = [
        ("File name too long", rom(*ask, long)),
        ("File name too long", rom(*ask, docs, "--index", docs / long)),
        ("File name too long", CliRunner().invoke(app, ["info", long])),
        ("'~nosuchuser/x'", rom(*ask, "~nosuchuser/x")),
        ("'~nosuchuser/x'", rom(*ask, docs, "--index", "~nosuchuser/x")),
        ("'~nosuchuser/x'", CliRunner().invoke(app, ["info", "~nosuchuser/x"])),
    ]
    for message, result in mistakes:
        assert result.exit_code == MISTAKE, message
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PermissionError(13, "Permission denied", "/a/b"),
            "'/a/b': Permission denied. Check the path and its permissions.\n",
        ),
        (PipelineRuntimeError("reader", None, "out of\nmemory"), "'reader' failed: out of memory\n"),
    ],
)
def test_failures_around_us_are_one_line(rom, docs, monkeypatch, error, line):
    def fail(*_):
        raise error

    monkeypatch.setattr(Library, "update", fail)
    result = rom("index", docs)
    assert (result.exit_code, result.stderr) == (MISTAKE, line)


def test_our_own_errors_keep_their_traceback(rom, docs, monkeypatch):
    def fail(*_):
        raise KeyError("a bug")

    monkeypatch.setattr(Library, "update", fail)
    assert isinstance(rom("index", docs).exception, KeyError)


def test_a_damaged_model_is_a_mistake(docs, tiny_checkpoint, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = CliRunner().invoke(app, ["ask", "Who?", "--docs", str(docs), "--model", str(damaged)])
    assert result.exit_code == MISTAKE
    assert "can't be loaded" in result.stderr


def test_the_default_model_is_the_bundled_one():
    assert cli.DEFAULT_MODEL == DEFAULT_CHECKPOINT  # written twice, as importing it would import torch


def test_mistakes_are_json_too(rom, docs):
    result = rom("ask", " ", "--docs", docs, "--json")
    assert result.exit_code == MISTAKE
    assert json.loads(result.stdout) == {"error": "The question is empty; ask with at least one word."}


def test_a_folder_without_readable_files(rom, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "bad.docx").write_bytes(b"bad")
    result = rom("index", empty)
    assert result.exit_code == NOTHING_INDEXED
    assert "Skipped bad.docx: is no readable Word file" in result.stderr
    assert "Nothing to index" in result.stderr
    report = json.loads(rom("ask", "Who?", "--docs", empty, "--json").stdout)
    assert report["skipped"][0]["file"] == "bad.docx"


def test_an_interrupt_has_its_own_exit_code(rom, docs, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Library, "update", interrupt)
    result = rom("index", docs)
    assert result.exit_code == INTERRUPTED
    assert result.stderr == "Interrupted.\n"


def test_version_and_help():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"rom-haystack {__version__}\n"
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert "0 answered (or done), 1 no answer found, 2 a mistake" in shown
    assert "130 interrupted" in shown


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom rom_haystack import cli\n"
        "try:\n    cli.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'transformers', 'haystack', 'numpy'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_nothing_leaves_the_machine(rom, docs):
    pytest_socket.disable_socket(allow_unix_socket=False)
    try:
        indexed = rom("index", docs)
        asked = rom("ask", "What hunts at night?", "--docs", docs, "--json")
    finally:
        pytest_socket.enable_socket()
    assert indexed.exit_code == 0
    assert asked.exit_code in {0, NO_ANSWER}
    assert json.loads(asked.stdout)["index"]["unchanged"] == ["birds.md", "guide.pdf"]


def test_a_real_process_says_nothing_but_the_answer(docs, tiny_checkpoint, home):
    """No bars, load reports, warnings or telemetry; converters and sentence-transformers stay unimported."""
    (docs / "guide.pdf").unlink()
    Library(docs, model=str(tiny_checkpoint)).update()
    unwanted = "{'pypdf', 'docx', 'trafilatura', 'markdown_it', 'sentence_transformers'}"
    script = (
        "import sys\nfrom rom_haystack.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    from haystack.telemetry._telemetry import telemetry\n"
        f"    print(telemetry, sorted({unwanted} & set(sys.modules)), file=sys.stderr)\n"
    )
    arguments = ["ask", "What hovers?", "--docs", str(docs), "--json", "--model", str(tiny_checkpoint)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HAYSTACK_"))}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode in {0, NO_ANSWER}, done.stderr
    assert json.loads(done.stdout)["index"]["unchanged"] == ["birds.md"]
    assert done.stderr == "None []\n"


class TestTuneHybrid:
    @pytest.fixture
    def questions(self, tmp_path):
        rows = [{"question": "What waits beside the river?", "answers": ["heron"]}, {"question": "Who?", "answers": []}]
        file = tmp_path / "questions.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        return file

    @pytest.fixture
    def pipeline(self, rom, docs, tiny_checkpoint, tmp_path):
        """A pipeline file with a hybrid retriever over the folder's index."""
        place = tmp_path / "index"
        rom("index", docs, "--index", place)
        with Library(docs, index=place, model=str(tiny_checkpoint)) as library:
            pipeline = Pipeline()
            pipeline.add_component("search", ROMHybridRetriever(library.store, model=str(tiny_checkpoint), top_k=3))
            file = tmp_path / "pipeline.yaml"
            file.write_text(pipeline.dumps())
        return file

    def test_a_folder_is_tuned_for_ask(self, rom, docs, questions):
        shown = rom("tune-hybrid", questions, "--docs", docs)
        assert shown.exit_code == 0
        assert "1 questions, 1 of them with an answer" in shown.stdout
        result = json.loads(rom("tune-hybrid", questions, "--docs", docs, "--json").stdout)
        assert result["join_mode"] == "z_score"
        assert sum(result["weights"]) == pytest.approx(1)
        assert f"--keyword-weight {result['weights'][0]}" in shown.stdout
        assert result["hybrid"]["mrr"] >= max(result["keyword"]["mrr"], result["dense"]["mrr"])
        asked = rom("ask", "Who?", "--docs", docs, "--keyword-weight", result["weights"][0])
        assert asked.exit_code in {0, NO_ANSWER}

    def test_the_weight_of_ask_reaches_the_search(self, rom, docs):
        def found(*options):
            return json.loads(rom("ask", "meadow", "--docs", docs, "--json", *options).stdout)["passages"]

        assert [passage["file_path"] for passage in found("--keyword-weight", 1)] == ["birds.md"]
        assert len(found("--keyword-weight", 0)) == len(found()) > 1
        assert rom("ask", "meadow", "--docs", docs, "--keyword-weight", 1.5).exit_code == MISTAKE

    def test_a_pipeline_is_written_with_the_numbers(self, rom, pipeline, questions, tmp_path):
        tuned = tmp_path / "tuned.yaml"
        os.environ.pop("HF_HUB_OFFLINE", None)
        shown = CliRunner().invoke(
            app, list(map(str, ["tune-hybrid", questions, "--pipeline", pipeline, "--output", tuned]))
        )
        assert "HF_HUB_OFFLINE" not in os.environ  # its model may be one of the hub's
        assert shown.exit_code == 0, shown.output
        before, after = (Pipeline.loads(file.read_text()).get_component("search") for file in (pipeline, tuned))
        assert after.weights is not None
        assert f"join_mode='{after.join_mode}', weights={after.weights}" in shown.stdout
        numbers = {"join_mode": before.join_mode, "weights": before.weights}
        assert after.to_dict()["init_parameters"] | numbers == before.to_dict()["init_parameters"]

    @pytest.mark.parametrize("kind", ["answering", "super-component"])
    def test_a_retriever_within_a_component_is_found(self, pipeline, questions, tmp_path, kind):
        loaded = Pipeline.loads(pipeline.read_text())
        if kind == "super-component":
            outer = SuperComponent(loaded)
        else:
            outer = ROMExtractiveQA(retriever=loaded.remove_component("search"), model="x")
        whole, file, tuned = Pipeline(), tmp_path / "whole.yaml", tmp_path / "tuned.yaml"
        whole.add_component("outer", outer)
        file.write_text(whole.dumps())
        shown = CliRunner().invoke(
            app, ["tune-hybrid", str(questions), "--pipeline", str(file), "--output", str(tuned)]
        )
        assert shown.exit_code == 0, shown.output
        after = Pipeline.loads(tuned.read_text()).get_component("outer")
        after = after.pipeline.get_component("search") if kind == "super-component" else after.retriever
        assert after.weights is not None
        assert f"join_mode='{after.join_mode}', weights={after.weights}" in shown.stdout

    def test_mistakes(self, docs, tiny_checkpoint, pipeline, questions, tmp_path):
        (tmp_path / "empty.yaml").write_text("components: {}\nconnections: []\n")
        (tmp_path / "broken.yaml").write_text("components: [")
        unnamed = tmp_path / "unnamed.yaml"
        made = Pipeline()
        made.add_component("qa", ROMExtractiveQA(InMemoryDocumentStore(shared=False)))
        unnamed.write_text(made.dumps())
        for options, message in (
            ([], "Give either --docs"),
            (["--docs", docs, "--pipeline", pipeline], "Give either --docs"),
            (["--docs", docs, "--output", "x.yaml"], "--output writes a pipeline"),
            (
                ["--pipeline", pipeline, "--model", tiny_checkpoint],
                "A pipeline names its own model and store; give --index",
            ),
            (["--pipeline", pipeline, "--index", tmp_path / "index"], "A pipeline names its own model and store"),
            (["--pipeline", unnamed], "ROMExtractiveQA takes one as retriever"),
            (["--pipeline", tmp_path / "empty.yaml"], "has 0 components of type ROMHybridRetriever"),
            (["--pipeline", tmp_path / "broken.yaml"], "can't be loaded as a pipeline"),
            (["--pipeline", tmp_path / "none.yaml"], "No such file"),
        ):
            result = CliRunner().invoke(app, list(map(str, ["tune-hybrid", questions, *options])))
            assert result.exit_code == MISTAKE
            assert message in result.stderr

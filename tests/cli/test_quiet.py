"""Commands neither call home nor let libraries chat; of long preparation the user is told once."""

import json
import logging
import os
import subprocess
import sys

import pytest
import pytest_socket

from rom_haystack.cli import NO_ANSWER
from rom_haystack.inference import selection
from rom_haystack.inference.choices import Choice
from rom_haystack.inference.loading import preparation
from rom_haystack.library import Library


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

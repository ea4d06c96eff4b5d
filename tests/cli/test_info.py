"""`rom info`: the model, and what `auto` means on this machine."""

import json

from typer.testing import CliRunner

from rom_haystack.cli import app


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

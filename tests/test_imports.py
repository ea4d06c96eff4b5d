"""Imports are cheap: what is heavy is imported when it is first needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rom_haystack
from rom_haystack import modeling

ROOT = Path(__file__).parents[1]
MODELS = {"torch", "transformers", "sentence_transformers", "huggingface_hub"}
ENGINES = {"openvino", "onnxruntime", "onnx", "onnxscript", "nncf"}
HEAVY = MODELS | ENGINES | {"haystack", "faiss", "numpy", "tokenizers", "typer", "rich", "tqdm"}


def run(code: str) -> str:
    """Run code in an interpreter of its own; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def imported_by(code: str) -> set[str]:
    """Names of the packages that are there after some code."""
    return {name.partition(".")[0] for name in run(f"{code}\nimport sys\nprint(*sys.modules)").split()}


def test_the_package_alone_imports_nothing_heavy():
    assert imported_by("import rom_haystack\nrom_haystack.__version__, dir(rom_haystack)") & HEAVY == set()


def test_finding_a_checkpoint_takes_nothing_heavy():
    code = "from rom_haystack.modeling import resolve_checkpoint\nresolve_checkpoint('rom-minilm-l6')"
    assert imported_by(code) & HEAVY == set()


def test_checking_a_store_takes_no_model_and_no_store():
    code = "from rom_haystack import check_store_similarity\ncheck_store_similarity(object())"
    alone = imported_by("import haystack, rom_haystack.inference")  # the latter finds checkpoints
    assert (imported_by(code) - alone) & HEAVY == set()


def test_inference_takes_no_models_library_and_no_engine():
    imported = imported_by("import rom_haystack.inference")
    assert imported & (MODELS | ENGINES | {"haystack", "faiss"}) == set()
    assert "numpy" in imported


def test_asking_an_indexed_folder_takes_no_models_library(tmp_path):
    library = f"Library({str(ROOT / 'docs')!r}, index={str(tmp_path / 'index')!r})"
    code = f"from rom_haystack.library import Library\n{library}"
    assert "transformers" not in imported_by(code)


def test_what_is_asked_for_is_imported():
    assert "torch" in imported_by("from rom_haystack.modeling import ROMModel")
    assert "haystack" in imported_by("from rom_haystack import ROMTextEmbedder")


@pytest.mark.parametrize("package", [rom_haystack, modeling], ids=lambda package: package.__name__)
class TestLazyNames:
    def test_every_public_name_is_there(self, package):
        assert [name for name in package.__all__ if not hasattr(package, name)] == []
        assert set(package._HOMES) <= set(package.__all__) <= set(dir(package))

    def test_other_names_are_not(self, package):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
            package.nothing  # noqa: B018

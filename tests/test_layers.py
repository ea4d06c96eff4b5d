"""Arrows between the packages point one way, and the lower layers need neither Haystack nor FAISS nor Streamlit."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rom_haystack"
#: What of ours each part of the package may import, besides itself. `cli` stands on top and may import them all.
BELOW: dict[str, tuple[str, ...]] = {
    "answers": (),
    "caches": (),
    "durable": (),
    "compat": ("modeling", "inference", "components", "document_stores", "files", "metrics", "pipelines", "questions"),
    "fusion": (),
    "metrics": (),
    "modeling": (),
    "inference": ("caches", "metrics", "modeling"),
    "store_similarity": ("modeling", "inference"),
    "components": ("modeling", "inference", "metrics", "store_similarity"),
    "document_stores": ("durable",),
    "unreadable": (),
    "pdf": ("unreadable",),
    "files": ("pdf", "unreadable"),
    "folders": ("caches", "files", "unreadable"),
    "passages": ("files",),
    "hybrid": ("modeling", "components", "fusion", "metrics", "searches", "store_similarity"),
    "questions": ("files", "unreadable"),
    "searches": ("document_stores",),
    "pipelines": ("modeling", "components", "files", "hybrid", "passages", "searches"),
    "manifest": ("durable", "folders"),
    "library_index": ("document_stores", "folders", "manifest"),
    "library": (
        "modeling",
        "components",
        "document_stores",
        "files",
        "folders",
        "hybrid",
        "library_index",
        "manifest",
        "pdf",
        "pipelines",
        "unreadable",
    ),
    "serving": ("answers", "folders", "inference", "library"),
}
OURS = ("rom_haystack", "training", "demo", "benchmarks", "tests")
#: What of the lower layers is imported only where torch and transformers are installed.
NEED_TORCH = {
    "rom_haystack.modeling.checkpoints",
    "rom_haystack.modeling.config",
    *(
        f"rom_haystack.modeling.conversion.{module}"
        for module in (
            "convert",
            "dpr",
            "original_dpr",
            "parts",
            "readers",
            "sentence_transformers",
            "tokenizers",
            "weights",
            "writing",
        )
    ),
    "rom_haystack.modeling.heads",
    "rom_haystack.modeling.model",
    "rom_haystack.inference.backends.pytorch",
    "rom_haystack.inference.export.checks",
    "rom_haystack.inference.export.graph",
}
HAYSTACK = ("haystack", "haystack_integrations", "faiss", "streamlit")
USER_INTERFACE = ("streamlit", "altair", "demo.app", "demo.views")


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside functions, by absolute name."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imports_under(module: str) -> set[tuple[str, str]]:
    """Every (file, imported name) of a module or a package."""
    path = ROOT.joinpath(*module.split("."))
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert files
    return {(str(file.relative_to(ROOT)), name) for file in files for name in imports_of(file)}


def arrows_up(module: str, below: tuple[str, ...]) -> set[tuple[str, str]]:
    """Imports of ours from neither `module` itself nor a part below it; the root hands out every part, so it is up."""
    allowed = (module, *(f"rom_haystack.{part}" for part in below))
    return {(file, name) for file, name in imports_under(module) if within(name, OURS) and not within(name, allowed)}


@pytest.mark.parametrize(("part", "below"), BELOW.items(), ids=list(BELOW))
def test_no_arrow_points_up(part, below):
    assert arrows_up(f"rom_haystack.{part}", below) == set()


def test_the_package_needs_nothing_beside_it():
    assert {(file, name) for file, name in imports_under("rom_haystack") if within(name, OURS[1:])} == set()


def test_training_stands_on_the_lower_layers():
    assert arrows_up("training", ("durable", "modeling", "inference", "metrics", "fusion")) == set()


def test_the_demo_stands_on_the_package():
    assert {
        (file, name) for file, name in imports_under("demo") if within(name, ("training", "benchmarks", "tests"))
    } == set()


def test_the_demo_without_its_pages_knows_no_user_interface():
    assert {(file, name) for file, name in imports_under("demo.core") if within(name, USER_INTERFACE)} == set()


def test_every_part_has_its_place():
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert parts - {"__init__", "cli"} == set(BELOW)


@pytest.mark.parametrize(
    "module", ["rom_haystack.metrics", "rom_haystack.modeling", "rom_haystack.inference", "training"]
)
def test_lower_layers_know_no_haystack(module):
    assert {(file, name) for file, name in imports_under(module) if within(name, HAYSTACK)} == set()


def test_the_check_names_the_offender(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    folder = tmp_path / "rom_haystack" / "components"
    folder.mkdir(parents=True)
    source = (
        "from ..library import Library\nimport rom_haystack.modeling, haystack, training.recipe, rom_haystack.cli\n"
    )
    (folder / "module.py").write_text(source, encoding="utf-8")
    names = {name for _, name in arrows_up("rom_haystack.components", BELOW["components"])}
    assert names == {"rom_haystack.library", "rom_haystack.library.Library", "rom_haystack.cli", "training.recipe"}


def test_the_check_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    folder = tmp_path / "pkg" / "sub"
    folder.mkdir(parents=True)
    source = "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\ndef h():\n    import i\n"
    (folder / "module.py").write_text(source, encoding="utf-8")
    assert imports_of(folder / "module.py") == {"a.b", "c", "c.d", "pkg.sub", "pkg.sub.e", "pkg.f", "pkg.f.g", "i"}


def modules_without(blocked: tuple[str, ...], *packages: str) -> tuple[set[str], set[str]]:
    """Modules of packages that can be imported where other packages are not installed, and those that can't be."""
    code = f"""
import importlib, pkgutil, sys
for name in {blocked}:
    sys.modules[name] = None
for name in {packages}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] not in {blocked}:
                raise
            print("-", module.name)
        else:
            print("+", module.name)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    return tuple({name for sign, name in lines if sign == wanted} for wanted in "+-")


def test_lower_layers_import_without_haystack():
    imported, refused = modules_without(HAYSTACK, "rom_haystack.modeling", "rom_haystack.inference", "training")
    assert refused == set()
    assert {"rom_haystack.modeling.model", "rom_haystack.inference.encoder", "training.trainer"} <= imported


def test_the_demo_without_its_pages_imports_without_a_user_interface():
    imported, refused = modules_without(USER_INTERFACE[:2], "demo.core")
    assert refused == set()
    assert {"demo.core.jobs", "demo.core.results"} <= imported


def test_inference_imports_without_torch():
    """Exported graphs are run where neither torch nor transformers is installed."""
    imported, refused = modules_without(("torch", "transformers"), "rom_haystack.modeling", "rom_haystack.inference")
    assert refused == NEED_TORCH
    assert {"rom_haystack.modeling.places", "rom_haystack.inference.loading"} <= imported

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
UPPER = ("rom_haystack.components", "rom_haystack.document_stores", "rom_haystack.pipelines", "rom_haystack.cli")
HAYSTACK = ("haystack", "haystack_integrations", "faiss", "streamlit")


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


def offences(folder: Path, forbidden: tuple[str, ...]) -> dict[str, set[str]]:
    files = sorted(folder.rglob("*.py"))
    assert files
    wrong = {}
    for path in files:
        bad = {name for name in imports_of(path) if any(name == f or name.startswith(f"{f}.") for f in forbidden)}
        if bad:
            wrong[str(path.relative_to(ROOT))] = bad
    return wrong


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        (PACKAGE, ("training", "demo", "benchmarks", "tests")),
        (PACKAGE / "modeling", ("rom_haystack.inference", *UPPER, *HAYSTACK)),
        (PACKAGE / "inference", (*UPPER, *HAYSTACK)),
        (ROOT / "training", (*UPPER, *HAYSTACK)),
    ],
    ids=["rom_haystack", "modeling", "inference", "training"],
)
def test_no_arrow_points_up(folder, forbidden):
    assert offences(folder, forbidden) == {}


def test_the_check_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    folder = tmp_path / "pkg" / "sub"
    folder.mkdir(parents=True)
    source = "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\ndef h():\n    import i\n"
    (folder / "module.py").write_text(source, encoding="utf-8")
    assert imports_of(folder / "module.py") == {"a.b", "c", "c.d", "pkg.sub", "pkg.sub.e", "pkg.f", "pkg.f.g", "i"}


def test_lower_layers_import_without_haystack():
    code = """
import importlib, pkgutil, sys
for name in ("haystack", "haystack_integrations", "faiss", "streamlit"):
    sys.modules[name] = None
import rom_haystack.inference, rom_haystack.modeling, training
for package in (rom_haystack.modeling, rom_haystack.inference, training):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
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
    assert {"rom_haystack.modeling.model", "rom_haystack.inference.encoder", "training.trainer"} <= set(
        result.stdout.split()
    )

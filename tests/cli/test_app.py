"""`rom` without a command: version, help, and the model that all commands take by default."""

import subprocess
import sys

from typer.testing import CliRunner

from rom_haystack import __version__, cli
from rom_haystack.cli import app
from rom_haystack.modeling import DEFAULT_CHECKPOINT


def test_the_default_model_is_the_bundled_one():
    assert cli.DEFAULT_MODEL == DEFAULT_CHECKPOINT  # written twice, as importing it would import torch


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

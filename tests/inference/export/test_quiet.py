"""Exports and engines contact nobody and say nothing."""

from __future__ import annotations

import os
import subprocess
import sys


def test_exports_and_engines_contact_nobody_and_say_nothing(checkpoint, tmp_path):
    """In a process of its own, as on a user's machine: engines hold back their telemetry in tests by themselves."""
    script = """
import sys
attempts = []
watched = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request")
sys.addaudithook(lambda event, args: attempts.append(event) if event in watched else None)
from pathlib import Path
import numpy as np
from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.backends.onnx import ONNXBackend
from rom_haystack.inference.backends.openvino import OpenVINOBackend
from rom_haystack.inference.export.folder import load_facts
from rom_haystack.inference.export.graph import export_graph
checkpoint, folder, report = map(Path, sys.argv[1:])
tokens = TokenIds(np.arange(5, 25), np.zeros(20, dtype=np.int64))
for backend, kind in (("onnx", ONNXBackend), ("openvino", OpenVINOBackend)):
    for int8 in (False, True):
        pairs = [("Who was here in 1815?", "Ada was here. " * n) for n in (1, 5, 20)]
        graph = export_graph(checkpoint, folder, backend, int8=int8, calibration=pairs)
        kind(graph, load_facts(folder), dtype="int8" if int8 else "float32").run([tokens], "reading")
report.write_text(f"{attempts} {'openvino_telemetry' in sys.modules}")
"""
    home = tmp_path / "home"
    home.mkdir()
    report = tmp_path / "report"
    held_back = ("CI", "GITHUB_ACTIONS", "NNCF_CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    result = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint), str(tmp_path / "export"), str(report)],
        env={name: value for name, value in os.environ.items() if name not in held_back} | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert report.read_text() == "[] False"
    assert result.stdout == ""
    assert [path for path in home.rglob("*") if path.is_file()] == []

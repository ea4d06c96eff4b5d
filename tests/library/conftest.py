"""Fixtures of the library's tests: a folder of documents, its index, and ways for a process to end."""

from contextlib import contextmanager
from functools import wraps

import pytest

from rom_haystack.components import ROMDocumentEmbedder
from rom_haystack.library import Library
from rom_haystack.manifest import ManifestFile


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "docs"
    (folder / "birds").mkdir(parents=True)
    (folder / "birds" / "heron.md").write_text("# Heron\n\nThe heron waits beside the river.")
    (folder / "birds" / "owl.txt").write_text("The owl hunts at night.")
    (folder / "rivers.txt").write_text("Rivers flow to the sea.")
    return folder


@pytest.fixture
def open_library(folder, tmp_path, tiny_checkpoint):
    def open_library(**options):
        options = {"index": tmp_path / "index", "model": str(tiny_checkpoint), **options}
        return Library(options.pop("folder", folder), **options)

    return open_library


@pytest.fixture
def index(open_library, tmp_path):
    """The folder of an index that is up to date."""
    with open_library() as library:
        library.update()
    return tmp_path / "index"


@pytest.fixture
def embedded(monkeypatch):
    """The texts that were embedded, in order."""
    texts = []
    run = ROMDocumentEmbedder.run

    @wraps(run)  # Haystack compares the signatures of run and run_async
    def counted(self, documents):
        texts.extend(document.content for document in documents)
        return run(self, documents)

    monkeypatch.setattr(ROMDocumentEmbedder, "run", counted)
    return texts


@pytest.fixture
def dying(monkeypatch):
    """Let the process die when a function is called for the n-th time, before or after it has done its work."""

    @contextmanager
    def dying(owner, name, *, call=1, after=False):
        dead = []
        calls = []
        function, save = getattr(owner, name), ManifestFile.save

        def fatal(*args, **kwargs):
            calls.append(args)
            if len(calls) == call and not after:
                dead.append(True)
                raise Killed
            result = function(*args, **kwargs)
            if len(calls) == call:
                dead.append(True)
                raise Killed
            return result

        def save_if_alive(*args):  # a killed process runs no `finally`
            if dead:
                raise Killed
            save(*args)

        with monkeypatch.context() as patch:
            patch.setattr(ManifestFile, "save", save_if_alive)
            patch.setattr(owner, name, fatal)
            with pytest.raises(Killed):
                yield
        assert dead

    return dying

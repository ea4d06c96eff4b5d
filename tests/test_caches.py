"""Where caches lie, on each system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rom_haystack.caches import cache_home


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    for name in ("ROM_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


@pytest.mark.parametrize(
    ("platform", "place"),
    [
        ("linux", ".cache/rom_haystack"),
        ("darwin", "Library/Caches/rom_haystack"),
        ("win32", "AppData/Local/rom_haystack"),
    ],
)
def test_the_systems_own_place(monkeypatch, tmp_path, platform, place):
    monkeypatch.setattr("sys.platform", platform)
    assert cache_home() == tmp_path / place


@pytest.mark.parametrize(("platform", "name"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")])
def test_the_users_choice_for_all_programs(monkeypatch, tmp_path, platform, name):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(name, str(tmp_path / "mine"))
    assert cache_home() == tmp_path / "mine" / "rom_haystack"
    monkeypatch.setenv(name, "")
    assert cache_home().is_relative_to(tmp_path / (".cache" if platform == "linux" else "AppData"))


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_users_choice_for_this_package(monkeypatch, tmp_path, platform):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.chdir(tmp_path)
    for home, place in [(str(tmp_path / "rom"), tmp_path / "rom"), ("~/rom", tmp_path / "rom"), ("x", tmp_path / "x")]:
        monkeypatch.setenv("ROM_HOME", home)
        assert cache_home() == place


def test_nothing_is_made(tmp_path):
    assert not cache_home().exists()
    assert list(tmp_path.iterdir()) == []


def test_the_home_of_nobody(monkeypatch):
    monkeypatch.setenv("ROM_HOME", "~nosuchuser/x")
    with pytest.raises(ValueError, match=r"ROM_HOME '~nosuchuser/x' can't be found.*Write the path out in full"):
        cache_home()


def test_a_user_without_home(monkeypatch):
    def nowhere():
        raise RuntimeError("no home")

    for name in ("ROM_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ValueError, match="Set ROM_HOME"):
        cache_home()


def test_a_relative_choice_for_all_programs_is_ignored(monkeypatch, tmp_path):
    monkeypatch.delenv("ROM_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert cache_home() == tmp_path / ".cache" / "rom_haystack"

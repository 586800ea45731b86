"""Generated files: private, whole, and never believed."""

import os
import stat

import pytest

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.triton import load as loading
from snncompile.targets.triton import store
from snncompile.targets.triton.aot import scan_kernels

from ..scans import integrator


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "_loaded", {})
    return tmp_path / "cache"


def test_file_holds_the_text(cache):
    source = scan_kernels(integrator())["forward"]
    kernel = loading.load(source, interpret=True)
    assert kernel is loading.load(source, interpret=True)
    (file,) = (cache / "sources").iterdir()
    assert file.read_text() == source.text
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_other_content_is_replaced_and_not_run(cache, monkeypatch):
    source = scan_kernels(integrator())["forward"]
    loading.load(source, interpret=True)
    (file,) = (cache / "sources").iterdir()
    file.write_text("raise SystemExit('this ran')\n")
    monkeypatch.setattr(loading, "_loaded", {})
    loading.load(source, interpret=True)
    assert file.read_text() == source.text


def test_open_directory_is_closed(tmp_path, monkeypatch):
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(folder))
    store.directory("sources")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_somebody_elses_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path / "theirs"))
    real = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: real + 1)
    with pytest.raises(UnsupportedError, match="belongs to another user"):
        store.directory("sources")


def test_unusable_directory_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UnsupportedError, match="Set SNNCOMPILE_CACHE"):
        store.directory("sources")


def test_default_places(tmp_path, monkeypatch):
    monkeypatch.delenv("SNNCOMPILE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.directory("sources") == tmp_path / "xdg" / "snncompile" / "sources"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store.directory("sources") == tmp_path / "home" / ".cache" / "snncompile" / "sources"


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UnsupportedError, match=r"cannot be used \(full\). Set SNNCOMPILE_CACHE to"):
        store.write_whole(tmp_path / "x", b"data")
    assert list(tmp_path.iterdir()) == []

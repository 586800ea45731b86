"""Artifacts are written whole or not at all, and never over anything else."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import snncompile as snn
from snncompile.artifact import save_network, saving


def left(path: Path) -> list[str]:
    return sorted(os.listdir(path))


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, OSError(errno.ENOSPC, "x"), SystemExit])
@pytest.mark.parametrize("exists", [False, True])
def test_an_interruption_leaves_what_was_there(net, tmp_path, monkeypatch, failure, exists):
    path = tmp_path / "n.snn"
    if exists:
        net.save(path)
        before = (path / "manifest.json").read_bytes()

    def fail(*_):
        raise failure

    monkeypatch.setattr(saving, "write_weights", fail)
    with pytest.raises((KeyboardInterrupt, RuntimeError, SystemExit, snn.ArtifactError)) as caught:
        net.save(path)
    if isinstance(failure, OSError):
        assert "the disk is full: nothing was written to" in str(caught.value)
    assert left(tmp_path) == (["n.snn"] if exists else [])
    if exists:
        assert (path / "manifest.json").read_bytes() == before
        snn.load(path)


def test_a_failing_rename_puts_the_old_one_back(net, tmp_path, monkeypatch):
    path = net.save(tmp_path / "n.snn")
    rename, calls = os.rename, []

    def second_fails(a, b):
        calls.append(a)
        if len(calls) == 2:
            raise OSError(errno.EIO, "broken")
        rename(a, b)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(snn.ArtifactError, match="cannot be written"):
        net.save(path)
    assert left(tmp_path) == ["n.snn"]
    snn.load(path)


def test_an_artifact_is_replaced(net, tmp_path):
    path = net.save(tmp_path / "n.snn")
    net.target = "triton"
    net.save(path)
    assert snn.load(path).target == "triton"
    assert left(tmp_path) == ["n.snn"]


def test_a_damaged_artifact_is_replaced(net, tmp_path):
    path = net.save(tmp_path / "n.snn")
    (path / "graph.json").write_text("damaged")
    net.save(path)
    assert snn.load(path).graph.names == net.graph.names


def test_an_empty_directory_is_taken(net, tmp_path):
    (tmp_path / "n.snn").mkdir()
    assert snn.load(net.save(tmp_path / "n.snn")).graph.names == net.graph.names


@pytest.mark.parametrize("name", ["thesis.txt", "kernels/mine.c", "data/x", "manifest.json"])
def test_another_directory_is_not_touched(net, tmp_path, name):
    file = tmp_path / "n.snn" / name
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    with pytest.raises(snn.ArtifactError, match="no artifact and is not overwritten; choose another name"):
        net.save(tmp_path / "n.snn")
    assert file.read_text() == "years of work"


def test_an_artifact_with_a_note_in_it_is_not_touched(net, tmp_path):
    path = net.save(tmp_path / "n.snn")
    (path / "notes.txt").write_text("mine")
    with pytest.raises(snn.ArtifactError, match=r"holds notes\.txt"):
        net.save(path)
    assert (path / "notes.txt").exists()


def test_a_file_or_a_link_is_not_replaced(net, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(net.save(tmp_path / "n.snn"))
    for name, what in (("file", "a file"), ("link", "a symbolic link")):
        with pytest.raises(snn.ArtifactError, match=f"is {what}, which is not overwritten"):
            net.save(tmp_path / name)


def test_parents_are_made(net, tmp_path):
    assert snn.load(net.save(tmp_path / "a" / "b" / "n.snn")).graph.names == net.graph.names


def test_read_only_place(net, tmp_path, monkeypatch):
    import tempfile

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(snn.ArtifactError, match=r"cannot be written to .permission denied.; choose another place"):
        net.save(tmp_path / "n.snn")


def test_a_file_in_place_of_the_parent(net, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(snn.ArtifactError, match="is not a directory"):
        net.save(tmp_path / "file" / "n.snn")


def test_permissions_follow_the_umask(net, tmp_path):
    before = os.umask(0o027)
    try:
        path = net.save(tmp_path / "n.snn")
    finally:
        os.umask(before)
    modes = {p.relative_to(tmp_path).as_posix(): p.stat().st_mode & 0o777 for p in [path, *path.rglob("*")]}
    assert modes["n.snn"] == modes["n.snn/kernels"] == 0o750
    assert modes["n.snn/weights.safetensors"] == modes["n.snn/graph.json"] == 0o640


def test_architectures_need_a_target_that_compiles(net, tmp_path):
    with pytest.raises(snn.UnsupportedError, match='target "torch" compiles no kernels'):
        save_network(net, tmp_path / "n.snn", archs=["sm_90"])
    net.target = "triton"
    with pytest.raises(snn.UnsupportedError, match="sm_90"):
        save_network(net, tmp_path / "n.snn", archs=["sm_12"])
    assert left(tmp_path) == []


def test_kernels_follow_the_checkpoint(tmp_path, net):
    net.target = "triton"
    every = left(net.save(tmp_path / "a.snn") / "kernels")
    net.checkpoint = 5
    some = left(net.save(tmp_path / "b.snn") / "kernels")
    assert "li_backward.py" in every and "li_forward_save.py" in every
    assert "li_backward_checkpoint.py" in some and "li_forward_checkpoint.py" in some
    assert not set(every) & {"li_backward_checkpoint.py"} and not set(some) & {"li_backward.py"}


def test_a_recurrent_layer_has_kernels_of_its_own(built):
    names = {n.split("_recurrent")[-1] for n in left(built / "kernels") if "_recurrent" in n}
    assert names == {".py", "_save.py", "_backward.py", "_step.py", "_split.py"}


@pytest.mark.slow
def test_binaries(tmp_path, net):
    net.target = "triton"
    path = save_network(net, tmp_path / "n.snn", archs=["sm_90", "gfx942", "sm_90"])
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["archs"] == ["sm_90", "gfx942"]
    assert set(manifest["toolchain"]) == {"triton"}
    names = set(left(path / "kernels"))
    for stem in {n.split(".")[0] for n in names}:
        endings = (".py", ".sm_90.cubin", ".sm_90.ptx", ".gfx942.hsaco", ".gfx942.amdgcn")
        assert {stem + e for e in endings} <= names
    assert "registers" in (path / "report.txt").read_text()
    snn.load(path, target="torch")

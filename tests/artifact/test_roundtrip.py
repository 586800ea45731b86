"""What is saved is what is loaded, and the same network gives the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import snncompile as snn
from snncompile.artifact import ArtifactNote, open_artifact
from snncompile.artifact.format import MANIFEST, parse_manifest


def outputs(net: snn.Network, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out, state, record = net.evolve(**data, record=["own.v", "own.spikes:sum"])
    return {**out, **state, **record}


@pytest.mark.parametrize("target", ["torch", "c", "auto"])
def test_round_trip(net, data, tmp_path, target):
    net.target, net.checkpoint = target, 3
    net.save(tmp_path / "n.snn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = snn.load(tmp_path / "n.snn")
    assert (loaded.target, loaded.checkpoint, loaded.graph.name, loaded.graph.dt) == (target, 3, "small", 1e-3)
    assert list(loaded.state_dict()) == list(net.state_dict())
    assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in net.named_parameters()]
    want, got = outputs(net, data), outputs(loaded, data)
    assert want.keys() == got.keys()
    assert all(torch.equal(want[k], got[k]) for k in want)


def test_a_loaded_network_trains_and_saves_again(net, data, tmp_path):
    net.save(tmp_path / "n.snn")
    loaded = snn.load(tmp_path / "n.snn")
    loaded(**data)["a"].sum().backward()
    assert loaded.own.tau.grad is not None
    loaded.save(tmp_path / "m.snn")
    assert contents(tmp_path / "n.snn") == contents(tmp_path / "m.snn")


def test_loading_draws_no_random_numbers(built):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    snn.load(built, target="torch")
    assert torch.equal(before, torch.get_rng_state())


def test_target_can_be_changed(built):
    assert snn.load(built).target == "triton"
    assert snn.load(built, target="torch").target == "torch"
    with pytest.raises(snn.UnsupportedError, match="there is no target 'cuda'"):
        snn.load(built, target="cuda")


def contents(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_same_network_same_bytes(built, tmp_path):
    """In another process, from another directory, with another hash seed."""
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("conftest_copy", {str(Path(__file__).with_name("conftest.py"))!r})
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
module.build("triton").save({str(tmp_path / "deep" / "other.snn")!r})
"""
    environment = {"PYTHONHASHSEED": "123", "PATH": "", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert contents(built) == contents(tmp_path / "deep" / "other.snn")


def test_nothing_of_this_machine_is_in_it(built):
    for name, data in contents(built).items():
        for place in (str(Path(__file__).parent), str(Path(snn.__file__).parent), str(Path.home())):
            assert place.encode() not in data or place == "/", name


def test_manifest(built):
    manifest = parse_manifest((built / MANIFEST).read_text(), built / MANIFEST)
    assert (manifest.producer, manifest.model, manifest.target) == (snn.__version__, "small", "triton")
    assert {n: (t.kind, t.shape, t.max) for n, t in manifest.inputs.items()} == {
        "x": ("spikes", (5,), 2),
        "c": ("current", (4,), None),
    }
    assert list(manifest.outputs) == ["a", "b"]
    assert set(manifest.files) == set(contents(built)) - {MANIFEST}


def test_report_is_readable(built):
    text = (built / "report.txt").read_text()
    assert "recurrent: " in text and "FLOPs" in text and "kernels/" in text
    assert max(map(len, text.splitlines())) < 200


def test_another_version_is_noted(artifact):
    change_manifest(artifact, lambda m: m["producer"].update(version="0.0.1"))
    with pytest.warns(ArtifactNote, match=r"written by snncompile 0\.0\.1; its kernels are generated again"):
        snn.load(artifact)


def test_broken_parameters_are_noted_not_lost(net, tmp_path):
    """A network that has diverged can be saved and looked at."""
    with torch.no_grad():
        net.own.tau.fill_(-1.0)
    net.save(tmp_path / "n.snn")
    with pytest.warns(ArtifactNote, match=r"own.*tau must be greater than 0"):
        snn.load(tmp_path / "n.snn")


def change_manifest(path: Path, change) -> None:
    from snncompile.artifact.format import _digest, canonical

    data = json.loads((path / MANIFEST).read_text())
    data.pop("digest")
    change(data)
    (path / MANIFEST).write_text(canonical({**data, "digest": _digest(data)}))


def test_nothing_is_executed(artifact, tmp_path):
    """Not even where the sources in kernels/ were replaced, with right hashes."""
    import hashlib

    marker = tmp_path / "executed"
    evil = f"open({str(marker)!r}, 'w')\n".encode()
    for source in (artifact / "kernels").glob("*.py"):
        source.write_bytes(evil)
        entry = {"bytes": len(evil), "sha256": hashlib.sha256(evil).hexdigest()}
        name = f"kernels/{source.name}"
        change_manifest(artifact, lambda m, n=name, e=entry: m["files"].update({n: e}))
    net = snn.load(artifact, target="torch")
    net(x=torch.zeros(1, 2, 5), c=torch.zeros(1, 2, 4))
    assert not marker.exists()


def test_opening_is_light(built):
    code = f"""
import sys
from snncompile.artifact.loading import open_artifact
open_artifact({str(built)!r})
assert not {{"triton", "onnx"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert open_artifact(built).graph.name == "small"

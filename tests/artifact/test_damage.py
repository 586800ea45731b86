"""Every kind of damage is refused, with the file and the reason."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import snncompile as snn
from snncompile.artifact.format import FORMAT, VERSION, _digest, canonical

KERNEL = "kernels/li_forward.py"


def manifest(path: Path, change) -> None:
    data = json.loads((path / "manifest.json").read_text())
    data.pop("digest")
    change(data)
    (path / "manifest.json").write_text(canonical({**data, "digest": _digest(data)}))


def rehash(path: Path, *names: str) -> None:
    """Make the manifest agree with changed files: somebody changed them on purpose."""

    def change(data):
        for name in names:
            content = (path / name).read_bytes()
            data["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    manifest(path, change)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(snn.ArtifactError) as caught:
        snn.load(path, target="torch")
    for word in words:
        assert word in str(caught.value)


FILES = ["manifest.json", "graph.json", "weights.safetensors", "report.txt", KERNEL]


@pytest.mark.parametrize("name", FILES)
def test_missing(artifact, name):
    (artifact / name).unlink()
    refused(artifact, name, "is missing: the artifact is not complete")


@pytest.mark.parametrize("name", FILES[1:])
def test_truncated(artifact, name):
    data = (artifact / name).read_bytes()
    (artifact / name).write_bytes(data[:-3])
    refused(artifact, name, "was cut", f"it has {len(data) - 3} bytes, the manifest says {len(data)}")


@pytest.mark.parametrize("name", FILES[1:])
def test_altered(artifact, name):
    data = bytearray((artifact / name).read_bytes())
    data[len(data) // 2] ^= 1
    (artifact / name).write_bytes(bytes(data))
    refused(artifact, name, "was altered")


@pytest.mark.parametrize("keep", [0, 1, 100, -2])
def test_truncated_manifest(artifact, keep):
    text = (artifact / "manifest.json").read_text()
    (artifact / "manifest.json").write_text(text[:keep])
    refused(artifact, "manifest.json")


def test_altered_manifest(artifact):
    text = (artifact / "manifest.json").read_text()
    (artifact / "manifest.json").write_text(text.replace('"dt": 0.001', '"dt": 0.002'))
    refused(artifact, "manifest.json", "its digest differs")


def test_every_flipped_byte_of_the_manifest_is_noticed(artifact):
    """Or it changes nothing: JSON has spaces."""
    original = (artifact / "manifest.json").read_bytes()
    want = json.loads(original)
    for at in range(0, len(original), 7):
        data = bytearray(original)
        data[at] ^= 4
        (artifact / "manifest.json").write_bytes(bytes(data))
        try:
            same = json.loads(bytes(data)) == want
        except ValueError:
            same = False
        if same:
            continue
        refused(artifact, "manifest.json")


@pytest.mark.parametrize("name", ["extra.txt", "kernels/extra.py", "kernels/x.so", "model.pkl"])
def test_unknown_file(artifact, name):
    (artifact / name).write_text("")
    refused(artifact, name, "is not part of the artifact")


def test_unknown_directory(artifact):
    (artifact / "more").mkdir()
    refused(artifact, "more", "is not part of the artifact")


def test_newer_format(artifact):
    manifest(artifact, lambda m: m.update(format_version=VERSION + 1))
    refused(artifact, "manifest.json", f"has format {VERSION + 1}", "Update snncompile")


@pytest.mark.parametrize("version", ["1", 0, True, None])
def test_no_format(artifact, version):
    manifest(artifact, lambda m: m.update(format_version=version))
    refused(artifact, "manifest.json", "format_version")


def test_not_an_artifact(artifact, tmp_path):
    manifest(artifact, lambda m: m.update(format="something"))
    refused(artifact, "manifest.json", f"is not {FORMAT!r}")
    refused(tmp_path / "nothing", "there is no")
    refused(tmp_path, "is no artifact")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "an artifact is a directory")


@pytest.mark.parametrize("key", ["model", "dt", "files", "producer", "checkpoint"])
def test_manifest_lacks_a_key(artifact, key):
    manifest(artifact, lambda m: m.pop(key))
    refused(artifact, "manifest.json", f"lacks {key}")


def test_manifest_has_an_unknown_key(artifact):
    manifest(artifact, lambda m: m.update(plugin="x"))
    refused(artifact, "manifest.json", "unknown key 'plugin'")


WRONG = [
    *(("dt", v) for v in ("x", -1.0, 1)),
    *(("checkpoint", v) for v in (0, 1.5)),
    *(("archs", v) for v in ("sm_90", ["../x"])),
    *(("files", v) for v in ([], {})),
    *(("inputs", []), ("outputs", {"a": {"kind": "x", "shape": [1]}})),
    *(("seed", "1"), ("toolchain", []), ("model", 3), ("producer", "me")),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_manifest_with_a_wrong_value(artifact, key, value):
    manifest(artifact, lambda m: m.update({key: value}))
    refused(artifact, "manifest.json")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "kernels/../graph.json", "kernels/a/b.py", "x.pkl", "kernels/x.so"]
)
def test_manifest_lists_a_path_outside(artifact, name):
    manifest(artifact, lambda m: m["files"].update({name: {"bytes": 0, "sha256": "0" * 64}}))
    refused(artifact, "manifest.json", "which no artifact has")


def test_manifest_with_a_key_twice_or_a_nan(artifact):
    text = (artifact / "manifest.json").read_text()
    (artifact / "manifest.json").write_text(text.replace('"dt": 0.001', '"dt": 0.001, "dt": 0.001'))
    refused(artifact, "manifest.json", "'dt' occurs twice")
    (artifact / "manifest.json").write_text(text.replace('"dt": 0.001', '"dt": NaN'))
    refused(artifact, "manifest.json", "NaN")
    (artifact / "manifest.json").write_text("[" * 100_000)
    refused(artifact, "manifest.json")
    (artifact / "manifest.json").write_bytes(b"\xff\xfe")
    refused(artifact, "manifest.json", "UTF-8")


@pytest.mark.parametrize("name", FILES)
def test_symbolic_link(artifact, name, tmp_path):
    (tmp_path / "elsewhere").write_bytes((artifact / name).read_bytes())
    (artifact / name).unlink()
    (artifact / name).symlink_to(tmp_path / "elsewhere")
    refused(artifact, name, "symbolic link")


def test_kernels_elsewhere(artifact, tmp_path):
    (artifact / "kernels").rename(tmp_path / "k")
    (artifact / "kernels").symlink_to(tmp_path / "k")
    refused(artifact, "kernels", "symbolic link")


def test_a_pipe_does_not_hang(artifact):
    import os

    (artifact / "report.txt").unlink()
    os.mkfifo(artifact / "report.txt")
    refused(artifact, "report.txt", "no plain file")


def test_an_artifact_may_be_reached_through_a_link(artifact, tmp_path):
    (tmp_path / "latest").symlink_to(artifact)
    assert snn.load(tmp_path / "latest", target="torch").graph.name == "small"


def test_size_over_the_limit(artifact, monkeypatch):
    from snncompile.artifact import format

    monkeypatch.setattr(format, "LIMITS", {**format.LIMITS, "graph.json": 10})
    refused(artifact, "manifest.json", "graph.json is over the limit of 10 bytes")


def test_graph_of_another_artifact(artifact):
    data = json.loads((artifact / "graph.json").read_text())
    (artifact / "graph.json").write_text(canonical({**data, "dt": 0.5}))
    rehash(artifact, "graph.json")
    refused(artifact, "graph.json", "does not belong to its manifest.json")


def test_graph_that_is_no_graph(artifact):
    (artifact / "graph.json").write_text("{}\n")
    rehash(artifact, "graph.json")
    refused(artifact, "graph.json")


def test_a_target_that_this_version_does_not_have(artifact):
    manifest(artifact, lambda m: m.update(target="fpga"))
    with pytest.raises(snn.UnsupportedError, match="is built for target 'fpga', which this snncompile does not have"):
        snn.load(artifact)
    assert snn.load(artifact, target="torch").target == "torch"


def weights(path: Path, change) -> None:
    values = load_file(path / "weights.safetensors")
    change(values)
    save_file(values, path / "weights.safetensors")
    rehash(path, "weights.safetensors")


def test_weights_lack_one(artifact):
    weights(artifact, lambda w: w.pop("own.tau"))
    refused(artifact, "weights.safetensors", "it lacks own.tau")


def test_weights_hold_another(artifact):
    weights(artifact, lambda w: w.update(more=torch.zeros(1)))
    refused(artifact, "weights.safetensors", "it holds more, which the network does not have")


def test_weights_of_another_shape(artifact):
    weights(artifact, lambda w: w.update({"linear.weight": torch.zeros(5, 4)}))
    refused(artifact, "weights.safetensors", "linear.weight has shape (5, 4), here it is (4, 5)")


def test_weights_of_another_dtype(artifact):
    weights(artifact, lambda w: w.update({"linear.weight": w["linear.weight"].half()}))
    refused(artifact, "weights.safetensors", "linear.weight is F16; weights are float32")


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 100, (50).to_bytes(8, "little") + b"{" * 60])
def test_weights_that_are_none(artifact, content):
    (artifact / "weights.safetensors").write_bytes(content)
    rehash(artifact, "weights.safetensors")
    refused(artifact, "weights.safetensors")

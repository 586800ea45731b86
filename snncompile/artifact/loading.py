"""Reading artifacts. Nothing in an artifact is executed; every file is checked before it is used."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import snncompile
from snncompile.artifact.directory import open_file, read_file
from snncompile.artifact.format import (
    FORMAT,
    GRAPH,
    KERNELS,
    LIMITS,
    MANIFEST,
    MIB,
    WEIGHTS,
    Manifest,
    limit_of,
    parse_json,
    parse_manifest,
    signature,
)
from snncompile.artifact.weights import check_weights, read_weights
from snncompile.ir.errors import ArtifactError, ModelError, SnnError, UnsupportedError
from snncompile.ir.graph import Graph
from snncompile.paths import as_path

if TYPE_CHECKING:
    from snncompile.network import Network


class ArtifactNote(UserWarning):
    """Something about a loaded artifact that its user should know, though nothing is wrong."""


@dataclass(frozen=True)
class Artifact:
    """An artifact that was read and checked, its weights still on disk.

    Attributes:
        path: its directory.
        manifest: what it says about itself.
        graph: the network as written.
        notes: what its user should know.
    """

    path: Path
    manifest: Manifest
    graph: Graph
    notes: tuple[str, ...]

    def weights(self) -> dict[str, Any]:
        """Parameter name -> tensor."""
        return read_weights(self.path / WEIGHTS, self.graph.parameters())


def load(path: str | Path, target: str | None = None) -> Network:
    """The network in an artifact. Nothing from it is executed: kernels are generated again from its graph.

    Like every module just made it is in training mode: ``.eval()`` turns Dropout off and fixes BatchNorm's statistics.

    Args:
        path: the directory that :meth:`Network.save` or ``snncompile build`` wrote.
        target: run it on this target; None takes the one it was built for.

    Raises:
        ArtifactError: where a file is missing, damaged, unknown, or of a newer format, naming it.
    """
    artifact = open_artifact(path)
    network = build_network(artifact, target)
    notes = list(artifact.notes)
    try:
        network.check_parameters()
    except ModelError as err:
        notes.append(f"{artifact.path / WEIGHTS}: {err}")
    for note in notes:
        warnings.warn(note, ArtifactNote, stacklevel=2)
    return network


def build_network(artifact: Artifact, target: str | None = None) -> Network:
    """The network of a checked artifact."""
    from snncompile.network import Network
    from snncompile.targets.registry import CHOICES

    manifest = artifact.manifest
    if target is None and manifest.target not in CHOICES:
        raise UnsupportedError(
            f"{artifact.path} is built for target {manifest.target!r}, which this snncompile does not have; name"
            f" another: {', '.join(CHOICES)}"
        )
    return Network(
        artifact.graph,
        target or manifest.target,
        checkpoint=manifest.checkpoint,
        values=artifact.weights(),
        precision=manifest.precision,
    )


def is_artifact(path: Path) -> bool:
    """Whether ``path`` looks like an artifact, whole or not."""
    return path.is_dir() and ((path / MANIFEST).is_file() or (path / GRAPH).is_file())


def open_artifact(path: str | Path) -> Artifact:
    """Read an artifact and check every file of it.

    Raises:
        ArtifactError: where a file is missing, damaged, unknown, or of a newer format, naming it.
    """
    root = as_path(path, ArtifactError)
    if not root.exists():
        raise ArtifactError(f"there is no {root}")
    if not root.is_dir():
        raise ArtifactError(f"{root} is no artifact: an artifact is a directory with a {MANIFEST}")
    if not (root / MANIFEST).exists() and not (root / GRAPH).exists():
        raise ArtifactError(f"{root} is no artifact: it has no {MANIFEST}")
    manifest = parse_manifest(_text(read_file(root, MANIFEST, LIMITS[MANIFEST]), root / MANIFEST), root / MANIFEST)
    _check_files(root, manifest)
    graph = _read_graph(root, manifest)
    check_weights(root / WEIGHTS, graph.parameters())
    return Artifact(root, manifest, graph, _notes(root, manifest))


def _check_files(root: Path, manifest: Manifest) -> None:
    present = set(_present(root))
    for name in manifest.files:
        if name not in present:
            raise ArtifactError(f"{root / name} is missing: the artifact is not complete. Build it again")
    for name in sorted(present - set(manifest.files) - {MANIFEST}):
        raise ArtifactError(f"{root / name} is not part of the artifact (the manifest does not list it): remove it")
    for name, info in manifest.files.items():
        with open_file(root, name, limit_of(name)) as (file, size):
            if size != info.bytes:
                how = "cut" if size < info.bytes else "altered"
                raise ArtifactError(f"{root / name} was {how}: it has {size} bytes, the manifest says {info.bytes}")
            total = hashlib.sha256()
            while chunk := file.read(4 * MIB):
                total.update(chunk)
        if total.hexdigest() != info.sha256:
            raise ArtifactError(f"{root / name} was altered: its sha256 is not the one in the manifest")


def _present(root: Path) -> list[str]:
    names = []
    for entry in os.scandir(root):
        if entry.is_symlink():
            raise ArtifactError(f"{entry.path} is a symbolic link; an artifact holds plain files only")
        if entry.name == KERNELS and entry.is_dir(follow_symlinks=False):
            for inner in os.scandir(entry.path):
                if inner.is_symlink():
                    raise ArtifactError(f"{inner.path} is a symbolic link; an artifact holds plain files only")
                names.append(f"{KERNELS}/{inner.name}")
        else:
            names.append(entry.name)
    return names


def _read_graph(root: Path, manifest: Manifest) -> Graph:
    from snncompile.ir.json_form import graph_from_json
    from snncompile.ir.verify import verify

    path = root / GRAPH
    data = parse_json(_text(read_file(root, GRAPH, LIMITS[GRAPH]), path), path)
    try:
        graph = graph_from_json(data)
        verify(graph)
    except SnnError as err:
        raise ArtifactError(f"{path}: {err}") from err
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as err:
        raise ArtifactError(f"{path} holds no valid graph: {type(err).__name__}: {err}") from err
    said = (manifest.model, manifest.dt, list(manifest.inputs.items()), list(manifest.outputs.items()))
    inputs, outputs = signature(graph)
    if said != (graph.name, graph.dt, list(inputs.items()), list(outputs.items())):
        raise ArtifactError(f"{path} does not belong to its {MANIFEST}: model, dt, inputs or outputs differ")
    return graph


def _notes(root: Path, manifest: Manifest) -> tuple[str, ...]:
    if manifest.producer == snncompile.__version__:
        return ()
    return (
        f"{root} was written by snncompile {manifest.producer}; its kernels are generated again by"
        f" {snncompile.__version__}",
    )


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ArtifactError(f"{path} is damaged: it is no UTF-8 text") from None


__all__ = ["FORMAT", "Artifact", "ArtifactNote", "build_network", "is_artifact", "load", "open_artifact"]

"""Writing artifacts: whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import snncompile
from snncompile.artifact.directory import check_replaceable, new_directory
from snncompile.artifact.format import (
    GRAPH,
    KERNELS,
    MANIFEST,
    REPORT,
    WEIGHTS,
    FileInfo,
    Manifest,
    canonical,
    limit_of,
    signature,
)
from snncompile.artifact.kernels import Progress, check_archs, make_kernels
from snncompile.artifact.report import report_text
from snncompile.artifact.weights import write_weights
from snncompile.ir.errors import ArtifactError
from snncompile.paths import as_path

if TYPE_CHECKING:
    from snncompile.network import Network


def save_network(
    net: Network,
    path: str | Path,
    archs: Sequence[str] = (),
    *,
    seed: int | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Write ``net`` as an artifact directory at ``path``; :func:`snncompile.load` reads it.

    It is written under a temporary name and renamed, so that ``path`` is the whole artifact or what it was before. An
    artifact that stands there is replaced; nothing else is. The same network gives the same files, byte for byte.

    Args:
        net: the network.
        path: where to; its parent directories are created.
        archs: GPU architectures to compile kernels for, e.g. ``["sm_90", "gfx942"]``. No GPU is needed.
        seed: what the weights were initialised with, if with a seed; noted in the manifest.
        progress: called with a line about each part of the work.

    Returns:
        the path.

    Raises:
        ArtifactError: where ``path`` is something else than an artifact, or cannot be written.
        UnsupportedError: for an unknown architecture, or where nothing here compiles for it.
    """
    path = as_path(path, ArtifactError)
    archs = check_archs(archs, net.target)
    check_replaceable(path)
    kernels = make_kernels(net.graph, net.target, archs, net.checkpoint, progress, net.precision)
    texts = {
        GRAPH: _graph_text(net).encode(),
        REPORT: report_text(net, kernels, archs).encode(),
        **kernels.files,
    }
    inputs, outputs = signature(net.graph)
    progress(f"writing {path}")
    with new_directory(path) as folder:
        (folder / KERNELS).mkdir()
        for name, data in texts.items():
            if len(data) > limit_of(name):
                raise ArtifactError(f"{name} would have {len(data)} bytes, over the limit of {limit_of(name)}")
            (folder / name).write_bytes(data)
        write_weights(net.state_dict(), folder / WEIGHTS)
        manifest = Manifest(
            producer=snncompile.__version__,
            model=net.graph.name,
            target=net.target,
            dt=net.graph.dt,
            checkpoint=net.checkpoint,
            precision=net.precision,
            archs=archs,
            seed=seed,
            toolchain=dict(kernels.toolchain),
            inputs=inputs,
            outputs=outputs,
            files={name: _info(folder / name) for name in (*texts, WEIGHTS)},
        )
        (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return path


def _graph_text(net: Network) -> str:
    from snncompile.ir.json_form import graph_to_json

    return canonical(graph_to_json(net.graph))


def _info(path: Path) -> FileInfo:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileInfo(os.path.getsize(path), digest)

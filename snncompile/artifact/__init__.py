"""Artifacts: a compiled network as a directory that anybody can read and nothing in which is executed.

``manifest.json`` says what the rest is, ``graph.json`` holds the network, ``weights.safetensors`` its values,
``kernels/`` the generated source and compiled binaries, ``report.txt`` a summary. See docs/artifact.md.
"""

from __future__ import annotations

from snncompile.artifact.loading import ArtifactNote, load, open_artifact
from snncompile.artifact.saving import save_network

__all__ = ["ArtifactNote", "load", "open_artifact", "save_network"]

"""What an artifact consists of: names of files, limits, and the manifest."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snncompile.ir.errors import ArtifactError
from snncompile.ir.graph import Graph
from snncompile.ir.types import SignalType
from snncompile.targets.precision import PRECISIONS

FORMAT = "snncompile-artifact"
VERSION = 1

MANIFEST, GRAPH, WEIGHTS, REPORT = "manifest.json", "graph.json", "weights.safetensors", "report.txt"
KERNELS = "kernels"

MIB = 2**20
#: The largest file of each kind that is read. Weights are bounded by what the graph says they are.
LIMITS: Mapping[str, int] = {MANIFEST: 8 * MIB, GRAPH: 256 * MIB, WEIGHTS: 64 * 1024 * MIB, REPORT: 64 * MIB}
KERNEL_LIMIT = 64 * MIB
MAX_FILES = 20_000

SOURCE = ".py"
C_SOURCE = ".c"
BINARIES = (".cubin", ".ptx", ".hsaco", ".amdgcn")

_KERNEL_FILE = re.compile(r"kernels/[A-Za-z_][A-Za-z0-9_]{0,200}(\.[a-z0-9_]{1,32})?\.[a-z]{1,8}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ARCH = re.compile(r"[a-z0-9_]{1,32}\Z")


@dataclass(frozen=True)
class FileInfo:
    """Size and hash of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The contents of ``manifest.json``.

    Attributes:
        producer: version of snncompile that wrote the artifact.
        model: the model's name.
        target: target it was built for.
        dt: the time step in seconds.
        checkpoint: every how many steps a backward pass keeps the states; None: as the target likes best.
        archs: GPU architectures with compiled kernels.
        seed: what initialised the weights, or None where they were given.
        toolchain: versions of what compiled the kernels.
        inputs: input name -> type.
        outputs: output key -> type.
        files: path inside the artifact -> size and hash, without the manifest.
        precision: of the products inside recurrent layers on Triton; not written where it is ``"auto"``.
        format_version: version of this format.
    """

    producer: str
    model: str
    target: str
    dt: float
    checkpoint: int | None
    archs: tuple[str, ...]
    seed: int | None
    toolchain: Mapping[str, str]
    inputs: Mapping[str, SignalType]
    outputs: Mapping[str, SignalType]
    files: Mapping[str, FileInfo] = field(default_factory=dict)
    precision: str = "auto"
    format_version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """As ``manifest.json`` holds it."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "format_version": self.format_version,
            "producer": {"name": "snncompile", "version": self.producer},
            "model": self.model,
            "target": self.target,
            "dt": self.dt,
            "checkpoint": self.checkpoint,
            **({} if self.precision == "auto" else {"precision": self.precision}),
            "archs": list(self.archs),
            "seed": self.seed,
            "toolchain": dict(sorted(self.toolchain.items())),
            "inputs": {name: _type_json(t) for name, t in self.inputs.items()},
            "outputs": {name: _type_json(t) for name, t in self.outputs.items()},
            "files": {p: {"bytes": f.bytes, "sha256": f.sha256} for p, f in sorted(self.files.items())},
        }
        return {**data, "digest": _digest(data)}

    def text(self) -> str:
        """The file's text."""
        return canonical(self.to_json())


def canonical(data: Any) -> str:
    """JSON as artifacts hold it: the same data is the same text. Floats are written so that they read back equal."""
    return json.dumps(data, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def signature(graph: Graph) -> tuple[dict[str, SignalType], dict[str, SignalType]]:
    """Types of inputs and outputs."""
    return graph.input_types(), graph.output_types()


def parse_manifest(text: str, path: Path) -> Manifest:
    """The manifest from its text.

    Raises:
        ArtifactError: where it is no manifest, of a newer format, or damaged.
    """
    data = parse_json(text, path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArtifactError(f'{path} is not the manifest of an artifact (its "format" is not {FORMAT!r})')
    version = data.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ArtifactError(f"{path} is damaged: format_version is {version!r}")
    if version > VERSION:
        raise ArtifactError(
            f"{path} has format {version}; this snncompile reads formats up to {VERSION}. Update snncompile, or build"
            " the artifact again with this one"
        )
    reader = _Reader(path)
    digest = data.pop("digest", None)
    reader.need(isinstance(digest, str) and digest == _digest(data), "it was altered or cut (its digest differs)")
    return reader.manifest(data)


def parse_json(text: str, path: Path) -> Any:
    """JSON from a file, strictly: no duplicate keys, no NaN or Infinity.

    Raises:
        ArtifactError: naming the file and the line.
    """
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as err:
        at = f"line {err.lineno}, column {err.colno}"
        raise ArtifactError(f"{path} is damaged or cut: it is no JSON ({err.msg} at {at})") from None
    except (ValueError, RecursionError) as err:
        why = "it is nested too deeply" if isinstance(err, RecursionError) else str(err)
        raise ArtifactError(f"{path} is damaged: {why}") from None


def is_kernel_file(path: str) -> bool:
    """Whether ``path`` is the name of a file that ``kernels/`` may hold."""
    return bool(_KERNEL_FILE.match(path)) and path.endswith((SOURCE, C_SOURCE, *BINARIES))


def limit_of(path: str) -> int:
    """The largest size of the file ``path`` of an artifact."""
    return LIMITS.get(path, KERNEL_LIMIT)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} occurs twice")
    return table


def _no_constant(name: str) -> Any:
    raise ValueError(f"it holds the number {name}")


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def _type_json(t: SignalType) -> dict[str, Any]:
    return {"kind": t.kind, "shape": list(t.shape)} | ({"max": t.max} if t.max is not None else {})


class _Reader:
    """Reads a manifest's fields, each of which must be there and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def need(self, holds: bool, why: str) -> None:
        if not holds:
            raise ArtifactError(f"{self.path} is damaged: {why}")

    def keys(self, data: Any, what: str, *names: str) -> dict[str, Any]:
        self.need(isinstance(data, dict), f"{what} is no table")
        missing = [n for n in names if n not in data]
        unknown = [n for n in data if n not in names]
        self.need(not missing, f"{what} lacks {', '.join(missing)}")
        self.need(not unknown, f"{what} has the unknown key {', '.join(map(repr, unknown))}")
        return data

    def manifest(self, data: Any) -> Manifest:
        names = ["format", "format_version", "producer", "model", "target", "dt", "checkpoint", "archs", "seed"]
        names += ["toolchain", "inputs", "outputs", "files"]
        self.need(isinstance(data, dict), "the manifest is no table")
        data = self.keys({"precision": "auto", **data}, "the manifest", *names, "precision")
        precision = data["precision"]
        self.need(isinstance(precision, str) and precision in PRECISIONS, f"precision is {precision!r}")
        producer = self.keys(data["producer"], "producer", "name", "version")
        text_fields = (producer["version"], data["model"], data["target"])
        self.need(all(isinstance(v, str) and len(v) < 200 for v in text_fields), "producer, model or target is no text")
        dt, checkpoint, seed = data["dt"], data["checkpoint"], data["seed"]
        self.need(isinstance(dt, float) and math.isfinite(dt) and dt > 0, f"dt is {dt!r}")
        self.need(checkpoint is None or (_is_whole(checkpoint) and checkpoint >= 1), f"checkpoint is {checkpoint!r}")
        self.need(seed is None or _is_whole(seed), f"seed is {seed!r}")
        archs, toolchain = data["archs"], data["toolchain"]
        good = isinstance(archs, list) and all(isinstance(a, str) and _ARCH.match(a) for a in archs)
        self.need(good, "archs is no list of names")
        good = isinstance(toolchain, dict) and all(isinstance(v, str) for v in toolchain.values())
        self.need(good, "toolchain is no table of versions")
        return Manifest(
            producer=producer["version"], model=data["model"], target=data["target"], dt=dt, checkpoint=checkpoint,
            archs=tuple(archs), seed=seed, toolchain=toolchain,
            inputs=self.types(data["inputs"], "inputs"), outputs=self.types(data["outputs"], "outputs"),
            files=self.files(data["files"]), precision=precision, format_version=data["format_version"],
        )  # fmt: skip

    def types(self, data: Any, what: str) -> dict[str, SignalType]:
        self.need(isinstance(data, dict), f"{what} is no table")
        found = {}
        for name, entry in data.items():
            self.need(isinstance(entry, dict), f"{what}: {name} is no table")
            table = self.keys({"max": None, **entry}, f"{what}: {name}", "kind", "shape", "max")
            shape = table["shape"]
            self.need(isinstance(shape, list), f"{what}: {name} has no shape")
            try:
                found[name] = SignalType(table["kind"], tuple(shape), table["max"])
            except Exception as err:
                raise ArtifactError(f"{self.path} is damaged: {what}: {name}: {err}") from None
        return found

    def files(self, data: Any) -> dict[str, FileInfo]:
        self.need(isinstance(data, dict) and len(data) <= MAX_FILES, "files is no table, or too long")
        found = {}
        for name, entry in data.items():
            known = name in (GRAPH, WEIGHTS, REPORT) or is_kernel_file(name)
            self.need(known, f"it lists {name!r}, which no artifact has")
            table = self.keys(entry, f"files: {name}", "bytes", "sha256")
            self.need(_is_whole(table["bytes"]) and table["bytes"] >= 0, f"files: {name} has no size")
            self.need(table["bytes"] <= limit_of(name), f"files: {name} is over the limit of {limit_of(name)} bytes")
            good = isinstance(table["sha256"], str) and bool(_SHA256.match(table["sha256"]))
            self.need(good, f"files: {name} has no sha256")
            found[name] = FileInfo(table["bytes"], table["sha256"])
        for name in (GRAPH, WEIGHTS, REPORT):
            self.need(name in found, f"it does not list {name}")
        return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

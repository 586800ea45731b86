"""The chips that kernels are compiled for ahead of time."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.errors import UnsupportedError


@dataclass(frozen=True)
class Arch:
    """One chip family.

    Attributes:
        name: as given on the command line.
        backend: Triton's backend, ``"cuda"`` or ``"hip"``.
        chip: Triton's name of it.
        warp: threads of a warp.
        shared: shared memory that one program may have, in bytes.
    """

    name: str
    backend: str
    chip: int | str
    warp: int
    shared: int

    @property
    def binary(self) -> str:
        """Triton's name for the machine code, which is also the file's extension."""
        return "cubin" if self.backend == "cuda" else "hsaco"

    @property
    def assembly(self) -> str:
        """Triton's name for the readable form of it, which is also the file's extension."""
        return "ptx" if self.backend == "cuda" else "amdgcn"


ARCHS = {
    arch.name: arch
    for arch in (
        Arch("sm_80", "cuda", 80, 32, 166_912),
        Arch("sm_90", "cuda", 90, 32, 232_448),
        Arch("sm_100", "cuda", 100, 32, 232_448),
        Arch("gfx942", "hip", "gfx942", 64, 65_536),
    )
}


def parse_arch(name: str) -> Arch:
    """The chip called ``name``.

    Raises:
        UnsupportedError: for an unknown name, with the known ones.
    """
    arch = ARCHS.get(name.strip())
    if arch is None:
        raise UnsupportedError(f"unknown architecture {name!r}. Known ones: {', '.join(ARCHS)}")
    return arch


def nearest(backend: str, major: int, minor: int) -> Arch:
    """What to assume of a chip that is present: the known one whose code it runs, or a cautious one."""
    if backend == "hip":
        return ARCHS["gfx942"]
    known = ARCHS.get(f"sm_{major}{minor}")
    if known is not None:
        return known
    # 8.6, 8.9 and 12.x have 99 KiB for a program, 8.7 what 8.0 has; what is newer still has no less
    small = (major, minor) in ((8, 6), (8, 9)) or major >= 12
    return Arch(f"sm_{major}{minor}", "cuda", 10 * major + minor, 32, 101_376 if small or major < 8 else 166_912)

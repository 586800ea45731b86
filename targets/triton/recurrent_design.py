"""How a recurrent layer runs on a chip: which form of kernel, tiles, and which precision.

- ``resident``: one program for 16 sequences; weight, states and spikes on chip; one launch for the whole sequence.
- ``streamed``: one program for 16 sequences; the weight is read from the L2 cache at every step, spikes and states pass
  through memory; one launch for the whole sequence.
- ``steps``: a launch for each step, over many programs; captured in a CUDA graph where the device has them.
- ``together``: programs that share the neurons of a tile of sequences and wait for each other after every step, in one
  launch. Each keeps its rows of the weight on chip where they fit (``kept``), as they do up to 256 neurons. All
  programs of a tile must run at once: it needs an NVIDIA GPU, and takes a launch for as many tiles as it runs at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.precision import LOWER
from snncompile.targets.triton.arch import Arch
from snncompile.targets.triton.config import choose_tile

FORMS = ("resident", "streamed", "steps", "together")

#: Sequences of a tile: what matrix instructions take at least.
ROWS = 16
#: The largest layer that streams its weight: beyond, one program's share of the L2 bandwidth is too small.
STREAMED = 512
#: The largest layer whose weight stays on chip in slices: beyond, a program holds too many addresses of its part.
SLICED = 256


@dataclass(frozen=True)
class Design:
    """How a layer runs.

    Attributes:
        form: one of :data:`FORMS`.
        precision: of its products: one of :data:`snncompile.targets.precision.PRECISIONS` but ``"auto"``.
        size: neurons of the layer, a compile-time argument: then places in a tile are constants, and cost no registers.
        rows: sequences of a tile.
        columns: neurons of a tile.
        inner: terms of a product summed at a time.
        width: length of a row of a weight in parts, 0 for one in float32.
        warps: warps per program.
        stages: how far loads of a loop run ahead, as Triton counts.
        kept: for programs that wait for each other: whether their rows of the weight stay on chip.
        why: the reason for the form and the precision, in words.
    """

    form: str
    precision: str
    size: int
    rows: int
    columns: int
    inner: int
    width: int
    warps: int
    stages: int
    kept: bool = False
    why: str = ""

    @property
    def together(self) -> bool:
        """Whether programs wait for each other."""
        return self.form == "together"

    @property
    def resident(self) -> bool:
        """Whether the kernel is of the resident form."""
        return self.form == "resident"

    @property
    def sliced(self) -> bool:
        """Whether the kernel is of the sliced form."""
        return self.together and self.kept

    @property
    def shares(self) -> int:
        """Programs that share the neurons of a tile of sequences."""
        return -(-self.size // self.columns)

    @property
    def dense(self) -> bool:
        """Whether it is worth knowing that operands are contiguous: if rows are multiples of 16 bytes."""
        return self.sliced and self.size % 4 == 0

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        tile = {"N": self.size, "ROWS": self.rows, "COLUMNS": self.columns}
        if self.resident or self.sliced:
            return {**tile, "WIDTH": self.width}
        return {**tile, "INNER": self.inner, "WIDTH": self.width, "TOGETHER": int(self.together)}


@dataclass(frozen=True)
class Demand:
    """What is asked of a design.

    Attributes:
        size: neurons of the layer.
        precision: what was asked for.
        backward: whether it is for the gradient.
        held: values that a step of one neuron of a resident kernel holds in registers.
        form: a form asked for; None chooses.
        steps: time steps; only whether there is more than one counts.
        real: whether what comes back forward is no whole number, so that its product takes more registers.
    """

    size: int
    precision: str = "auto"
    backward: bool = False
    held: int = 0
    form: str | None = None
    steps: int = 2
    real: bool = False

    @property
    def used(self) -> str:
        """The precision of a weight that is used at every step of one launch."""
        return "split-fp16" if self.precision == "auto" else self.precision

    @property
    def parts(self) -> int:
        """Float16 parts of the weight in that precision."""
        return {"split-fp16": 2, "fp16": 1}.get(self.used, 0)


def choose_design(asked: Demand, arch: Arch) -> Design:
    """How a layer runs on ``arch``.

    Raises:
        UnsupportedError: where the form asked for cannot run there.
    """
    form = asked.form
    if form is not None and form not in FORMS:
        raise UnsupportedError(f"there is no form {form!r} of a recurrent layer; there are {', '.join(FORMS)}")
    one_step = form is None and asked.steps <= 1 and asked.precision not in LOWER
    fits, why = _fits(asked, arch)
    slices = _sliced(asked, arch, why)
    if form is None:
        form = "resident" if fits else "together" if slices else "streamed"
        form = "steps" if one_step or (not fits and asked.size > STREAMED) else form
    if form == "steps":
        return _steps(asked, arch, one_step)
    if form == "resident":
        if not fits:
            raise UnsupportedError(f"a recurrent layer of {asked.size} neurons cannot stay on chip: {why}")
        return _resident(asked, arch, why)
    if form == "together" and arch.backend != "cuda":
        raise UnsupportedError(f"programs that wait for each other need an NVIDIA GPU, not {arch.name}")
    if slices and form == "together":
        return slices
    return _looped(asked, form, arch, why)


def _fits(asked: Demand, arch: Arch) -> tuple[bool, str]:
    """Whether a weight stays on chip, and the sum that says so."""
    if not asked.parts:
        return False, "one in float32 takes too much room on chip"
    columns = _power(asked.size)
    weight = weight_bytes(columns, asked.parts)
    need = weight + _OPERANDS * columns * ROWS
    said = f"the weight takes {weight:,} bytes of shared memory and its operands {need - weight:,}"
    said += f", of the {arch.shared:,} that {arch.name} has"
    if need > arch.shared:
        return False, said
    if columns > 256 or (columns > 128 and (arch.name != "sm_90" or asked.backward or asked.held > _FEW_HELD)):
        return False, f"{said}, but the registers do not suffice beside it"
    return True, said


#: Bytes of shared memory that an element of a tile takes: two float16 parts, and a float32 on its way.
_OPERANDS = 8
#: Values held for each neuron up to which a layer of more than 128 neurons, and one with the usual warps, needs no more
#: registers than there are (read from the binaries).
_FEW_HELD, _MANY_HELD = 6, 15


def _resident(asked: Demand, arch: Arch, why: str) -> Design:
    columns = _power(asked.size)
    warps = {256: 16, 128: 8}.get(columns, 4)
    if asked.held > _MANY_HELD and arch.name == "sm_90" and columns in (64, 128):
        warps *= 2
    why = f"{why}. {_precise(asked.used, asked)}"
    return Design("resident", asked.used, asked.size, ROWS, columns, columns, columns, warps, 1, why=why)


#: Chips on which programs keep slices: on others the compiler takes what comes back into registers, and spills.
_SLICING = ("sm_90", "sm_100")
#: Values held for each neuron up to which a program takes a tile of 128 neurons, and what addresses take beside them
#: where a row of a course is no multiple of 16 bytes; and those up to which one of 64 neurons has all sequences forward
#: (read from the binaries).
_SLICE_HELD, _LOOSE, _SLICE_TIGHT = 11, 4, 12


def _sliced(asked: Demand, arch: Arch, kept: str) -> Design | None:
    """Programs that keep their rows of the weight on chip, or None where there are none."""
    if not asked.parts or arch.name not in _SLICING or asked.size > SLICED:
        return None
    width = _power(asked.size)
    load = asked.held + (_LOOSE if asked.size % 4 else 0)
    tight = asked.backward or asked.real or load > _SLICE_TIGHT
    tiles = [(128, ROWS), (64, ROWS // 2 if tight else ROWS)]
    if load > _SLICE_HELD or (asked.backward and arch.name != "sm_90"):
        del tiles[0]
    for columns, rows in tiles:
        columns = max(16, min(columns, width // 2))  # small layers, too, are shared if they are asked to be
        weight = 2 * asked.parts * columns * width
        if weight + _OPERANDS * width * rows <= arch.shared:
            shares = -(-asked.size // columns)
            how = f"so {shares} programs of {columns} neurons, for {rows} sequences, keep {weight:,} bytes of it each"
            return Design(
                "together", asked.used, asked.size, rows, columns, width, width, 8, 1, True,
                f"{kept}, {how}. {_precise(asked.used, asked)}",
            )  # fmt: skip
    return None


def weight_bytes(columns: int, parts: int) -> int:
    """Bytes of a square weight in float16 parts."""
    return 2 * parts * columns * columns


def _looped(asked: Demand, form: str, arch: Arch, kept: str) -> Design:
    padded = _power(asked.size)
    columns = 32 if form == "together" else min(padded, 128)
    split = asked.parts > 0
    inner = min(padded, 64 if split and arch.backend == "cuda" else 32)
    width = -(-asked.size // inner) * inner if split else 0
    how = "comes from the L2 cache at every step"
    if form == "together":
        how = "is shared out over programs that wait for each other"
    stages = 1 if arch.backend == "hip" or not split else 3 if arch.shared >= _DEEP else 2
    warps = 8 if columns == 128 else 4
    if columns == 128 and split and arch.name == "sm_90" and asked.held > _STREAM_HELD[asked.backward]:
        columns = 64  # half as many elements for each thread; sums stay as they are
    return Design(
        form, asked.used, asked.size, ROWS, columns, inner, width, warps, stages, False,
        f"the weight {how}: {kept}. {_precise(asked.used, asked)}",
    )  # fmt: skip


#: Shared memory that holds three chunks of a weight on their way.
_DEEP = 160_000
#: Values held for each neuron up to which a kernel that streams its weight takes blocks of 128 neurons, forward and
#: backward (read from the binaries).
_STREAM_HELD = (8, 11)


def _steps(asked: Demand, arch: Arch, one_step: bool) -> Design:
    tile = choose_tile(asked.size)
    used = "tf32" if asked.precision in LOWER and arch.backend == "cuda" else "float32"
    why = f"a weight of {asked.size:,} neurons spreads over many programs"
    if one_step:
        why = "one step uses the weight once"
    return Design(
        "steps", used, asked.size, tile.rows, tile.columns, tile.inner, 0, tile.warps, 3, False,
        f"{why}. {_precise(used, asked)}",
    )  # fmt: skip


def _precise(used: str, asked: Demand) -> str:
    """The precision in words."""
    grade = {
        "float32": "float32 products",
        "split-fp16": "float32-grade products, from weights in two float16 parts",
        "tf32": "operands of 11 significant bits",
        "fp16": "weights of 11 significant bits",
    }[used]
    instead = "" if asked.precision in ("auto", used) else f", since this form has no {asked.precision}"
    return f"{used}: {grade}{instead}"


def _power(size: int) -> int:
    """The smallest power of two that is at least ``size`` and 16."""
    return max(16, 1 << (size - 1).bit_length())


def groups(batch: int, design: Design) -> int:
    """Programs, or groups of them, side by side over the batch."""
    return -(-batch // design.rows)


def check_together(batch: int, design: Design, processors: int) -> int:
    """How many tiles of sequences can run at once where programs wait for each other.

    Raises:
        UnsupportedError: where that is none, or not all of a kernel that cannot be launched in lots.
    """
    size, tiles = design.size, groups(batch, design)
    if design.kept and design.shares <= processors:
        return min(tiles, processors // design.shares)
    grid = design.shares * (1 if design.kept else tiles)
    if grid > processors:
        raise UnsupportedError(
            f"a recurrent layer of {size} neurons for {batch} sequences takes {grid} programs that wait for each other,"
            f" but this GPU runs {processors} at once. Split the batch, or leave the form to snncompile"
        )
    return tiles

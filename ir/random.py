"""Random numbers that depend on nothing but where and when they are drawn: Philox 4x32-10, a counter-based generator.

Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". The key is the run's seed;
the counter holds the element (sequence and neuron), the time step, the node's stream and the number of the draw within
the step. So every target draws the same numbers, in whatever order, and a backward pass draws them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile.ir.program import Op, Program

RANDOM = "random"
"""Name of the state that holds seed and next time step, ``(2,)`` int64."""

UNIFORM = "uniform"
"""The operation that draws; its operands are constants: the stream's upper and lower half, and the draw's number."""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

_MASK = 0xFFFFFFFF
_HALF = 2**16  # operands are float32: a stream of 32 bits comes in two halves
_PIECE = 2**15  # numbers computed at once: few enough for the cache


@dataclass(frozen=True, order=True)
class Draw:
    """One ``uniform`` of a step.

    Attributes:
        stream: the node's number, of 32 bits.
        index: which draw of its step.
    """

    stream: int
    index: int

    @property
    def block(self) -> int:
        """Philox gives four words at a time: which four."""
        return self.index // 4

    @property
    def word(self) -> int:
        """Which of the four."""
        return self.index % 4

    @property
    def args(self) -> tuple[float, float, float]:
        """As operands."""
        return float(self.stream // _HALF), float(self.stream % _HALF), float(self.index)


def stream_of(name: str) -> int:
    """The stream of the node that the model calls ``name``: 32 bits of a hash, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def is_draw_operand(value: object) -> bool:
    """Whether ``value`` may stand among the operands of a ``uniform``."""
    return isinstance(value, float) and value.is_integer() and 0 <= value < _HALF


def draw_of(op: Op) -> Draw:
    """What a ``uniform`` draws."""
    high, low, index = (int(a) for a in op.args if isinstance(a, float))
    return Draw(high * _HALF + low, index)


def draws_in(*programs: Program) -> tuple[Draw, ...]:
    """Everything that ``programs`` draw, each once."""
    return tuple(dict.fromkeys(draw_of(op) for p in programs for op in p.ops if op.op == UNIFORM))


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """Philox 4x32-10: four words for a counter of four and a key of two; int64 tensors that hold 32 bits each."""
    a, b, c, d = counter
    k, m = key
    for i in range(ROUNDS):
        if i:
            k, m = (k + WEYL[0]) & _MASK, (m + WEYL[1]) & _MASK
        p, q = a * MULTIPLIERS[0], c * MULTIPLIERS[1]  # 64 bits: the sign is one of them
        a, b, c, d = ((q >> 32) & _MASK) ^ b ^ k, q & _MASK, ((p >> 32) & _MASK) ^ d ^ m, p & _MASK
    return [a, b, c, d]


def to_uniform(word: Tensor) -> Tensor:
    """A word as a float32 in [0, 1): its upper 24 bits, so that every target rounds nothing."""
    return (word >> 8).float() * 2.0**-24


def courses(random: Tensor, draws: Sequence[Draw], shape: tuple[int, int, int]) -> list[Tensor]:
    """The numbers ``(T, B, N)`` of each of ``draws``.

    Args:
        random: seed and the first time step, ``(2,)`` int64.
        draws: what is drawn.
        shape: T, B, N.
    """
    steps, batch, size = shape
    made = {d: torch.empty(shape, dtype=torch.float32, device=random.device) for d in draws}
    blocks: dict[tuple[int, int], list[Draw]] = {}
    for d in made:
        blocks.setdefault((d.stream, d.block), []).append(d)
    key = random[0] & _MASK, (random[0] >> 32) & _MASK
    element = torch.arange(batch * size, device=random.device).reshape(batch, size) & _MASK
    time = ((random[1] + torch.arange(steps, device=random.device)) & _MASK).reshape(steps, 1, 1)
    piece = max(1, _PIECE // max(1, batch * size))
    for (stream, block), found in blocks.items():
        constants = torch.tensor([stream, block], device=random.device)
        for start in range(0, steps, piece):
            words = philox((element, time[start : start + piece], constants[0], constants[1]), key)
            for d in found:
                made[d][start : start + piece] = to_uniform(words[d.word])
    return [made[d] for d in draws]


def new_seed() -> Tensor:
    """A seed from torch's generator: ``torch.manual_seed`` repeats it."""
    return torch.randint(0, 2**63 - 1, (), device="cpu")


def first_random(seed: int | None, device: torch.device) -> Tensor:
    """The state before the first step: a seed, drawn where it is None, and step 0."""
    drawn = new_seed() if seed is None else torch.tensor(seed, device="cpu")
    return torch.stack([drawn, torch.zeros_like(drawn)]).to(device)

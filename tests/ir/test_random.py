"""Philox against its published vectors and a second implementation; what is made of it against its distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from snncompile.ir import exact
from snncompile.ir.random import Draw, courses, first_random, philox, stream_of

#: Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(w, 16) for w in text.split()]


@pytest.mark.parametrize("counter, key, result", KNOWN)
def test_published_vectors(counter: str, key: str, result: str) -> None:
    made = philox([torch.tensor(w) for w in words(counter)], [torch.tensor(w) for w in words(key)])
    assert [int(w) for w in made] == words(result)


def numpy_philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Another implementation: ``(..., 4)`` words of a counter ``(..., 4)`` and a key ``(2,)``, in uint64."""
    c, k = counter.astype(np.uint64), key.astype(np.uint64)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p = c[..., 0] * np.uint64(0xD2511F53)
        q = c[..., 2] * np.uint64(0xCD9E8D57)
        c = np.stack(
            [(q >> np.uint64(32)) ^ c[..., 1] ^ k[0], q & low, (p >> np.uint64(32)) ^ c[..., 3] ^ k[1], p & low], -1
        )
        k = (k + np.array([0x9E3779B9, 0xBB67AE85], np.uint64)) & low
    return c


def expected(seed: int, first: int, draw: Draw, shape: tuple[int, int, int]) -> np.ndarray:
    steps, batch, size = shape
    counter = np.zeros((*shape, 4), np.uint64)
    counter[..., 0] = np.arange(batch * size, dtype=np.uint64).reshape(1, batch, size)
    counter[..., 1] = ((first + np.arange(steps)) % 2**32).astype(np.uint64).reshape(-1, 1, 1)
    counter[..., 2], counter[..., 3] = draw.stream, draw.index // 4
    bits = numpy_philox(counter, np.array([seed % 2**32, seed >> 32], np.uint64))[..., draw.index % 4]
    return (bits >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


@pytest.mark.parametrize("seed, first", [(0, 0), (2**63 - 1, 3), (0xDEADBEEF12345678 >> 1, 2**32 - 2)])
def test_courses_are_philox_of_seed_node_step_element(seed: int, first: int) -> None:
    draws = [Draw(stream_of("lif"), i) for i in (0, 1, 5)] + [Draw(0xFFFFFFFF, 0)]
    shape = (5, 3, 7)
    for draw, made in zip(draws, courses(torch.tensor([seed, first]), draws, shape), strict=True):
        np.testing.assert_array_equal(made.numpy(), expected(seed, first, draw, shape))


def test_a_long_course_comes_in_pieces() -> None:
    draw = Draw(stream_of("noise"), 0)
    (made,) = courses(torch.tensor([7, 11]), [draw], (150, 2, 300))
    np.testing.assert_array_equal(made.numpy(), expected(7, 11, draw, (150, 2, 300)))


def test_streams_are_the_same_on_every_machine() -> None:
    assert stream_of("lif") == 0x4FFD973B
    assert len({stream_of(f"lif_{i}") for i in range(1000)}) == 1000


def test_first_random() -> None:
    assert first_random(5, torch.device("cpu")).tolist() == [5, 0]
    torch.manual_seed(3)
    a, b = (first_random(None, torch.device("cpu")) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(a, first_random(None, torch.device("cpu"))) and not torch.equal(a, b)


@pytest.fixture(scope="module")
def sample() -> torch.Tensor:
    """A million uniform numbers: 50 steps, 20 sequences, 1000 neurons."""
    return courses(torch.tensor([2024, 0]), [Draw(stream_of("poisson"), 0)], (50, 20, 1000))[0]


def kolmogorov(x: np.ndarray, cdf) -> float:
    """sqrt(n) times the largest gap between the distribution of ``x`` and ``cdf``."""
    x = np.sort(x.astype(np.float64))
    n = len(x)
    f = cdf(x)
    return float(math.sqrt(n) * max(np.max(np.arange(1, n + 1) / n - f), np.max(f - np.arange(n) / n)))


def test_uniform_distribution(sample: torch.Tensor) -> None:
    x = sample.double().numpy()
    assert x.min() >= 0.0 and x.max() < 1.0
    assert abs(x.mean() - 0.5) < 4 * math.sqrt(1 / 12 / x.size)
    assert abs(x.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / x.size)
    assert kolmogorov(x.reshape(-1), lambda v: v) < 1.63  # the 1 % point
    counts = np.bincount((x.reshape(-1) * 256).astype(int), minlength=256)
    chi = float((((counts - x.size / 256) ** 2) / (x.size / 256)).sum())
    assert abs(chi - 255) < 4 * math.sqrt(2 * 255)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_independent_over_time_batch_and_neurons(sample: torch.Tensor, axis: int) -> None:
    x = sample.double() - 0.5
    for lag in (1, 2, 7):
        a, b = x.narrow(axis, 0, x.shape[axis] - lag), x.narrow(axis, lag, x.shape[axis] - lag)
        assert abs(float((a * b).mean() * 12)) < 4 / math.sqrt(a.numel())
    means = x.mean([d for d in range(3) if d != axis])  # each step, sequence, neuron by itself
    assert float(means.abs().max()) < 5 * math.sqrt(x.shape[axis] / 12 / x.numel())


def test_independent_over_draws_nodes_and_seeds(sample: torch.Tensor) -> None:
    x = sample.double() - 0.5
    shape = tuple(sample.shape)
    others = [(2024, Draw(stream_of("poisson"), i)) for i in (1, 2, 3, 4)]
    others += [(2024, Draw(stream_of("poisson_1"), 0)), (2025, Draw(stream_of("poisson"), 0))]
    for seed, draw in others:
        (y,) = courses(torch.tensor([seed, 0]), [draw], shape)
        assert abs(float((x * (y.double() - 0.5)).mean() * 12)) < 4 / math.sqrt(x.numel())


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return torch.special.ndtr(torch.from_numpy(x)).numpy()


def test_normal_distribution(sample: torch.Tensor) -> None:
    z = exact.normal(sample).double()
    n = z.numel()
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(float((z**power).mean()) - moment) < 4 * math.sqrt(variance / n)
    assert kolmogorov(z.reshape(-1).numpy(), normal_cdf) < 1.63


def test_normal_is_the_inverse_of_its_distribution() -> None:
    k = torch.cat([torch.arange(0, 2**24, 997), torch.arange(4096), 2**24 - 1 - torch.arange(4096)])
    u = k.float() * 2.0**-24
    z, want = exact.normal(u).double(), torch.special.ndtri(u.double() + 2.0**-25)
    assert float((z - want).abs().max()) < 1.2e-6
    assert float(((z - want) / want).abs().max()) < 5e-7
    assert torch.equal(exact.normal(1.0 - 2.0**-24 - u), -exact.normal(u))  # both sides are alike
    assert 5.41 < float(z.max()) < 5.43

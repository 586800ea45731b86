"""Random cycles of images: convolutions, poolings and Dropout on the ways between populations.

Products are exact, as in :mod:`random_models`: weights are multiples of 1/8, and what they meet multiples of 1/16.
"""

from __future__ import annotations

import numpy as np

import snncompile as snn
from snncompile import ms

from .random_models import dyadic

INPUT = (2, 5, 4)


def conv(rng: np.random.Generator, shape: tuple[int, ...], out: int, window: tuple, groups: int = 1) -> snn.Node:
    """A convolution with exact sums of ``(kernel, stride, padding, dilation)``."""
    kernel, stride, padding, dilation = window
    flat = len(shape) == 2
    weight = dyadic(rng, out, shape[0] // groups, *((kernel[1],) if flat else kernel))
    options = {"groups": groups, "bias": bool(rng.random() < 0.5), "init": weight}
    sizes = {"stride": stride, "padding": padding, "dilation": dilation}
    if flat:
        return snn.Conv1d(out, kernel[1], **{k: v[1] for k, v in sizes.items()}, **options)
    return snn.Conv2d(out, kernel, **sizes, **options)


def pool(rng: np.random.Generator) -> snn.Node:
    """A pooling of images, by windows of a power of two."""
    kind = [snn.SumPool2d, snn.AvgPool2d, snn.MaxPool2d][rng.integers(3)]
    kernel = tuple(int(rng.integers(1, 3)) for _ in range(2))
    stride = tuple(int(rng.integers(1, 3)) for _ in range(2)) if rng.random() < 0.6 else None
    return kind(kernel, stride, tuple(int(rng.integers(k // 2 + 1)) for k in kernel))


def window(rng: np.random.Generator, size: tuple[int, ...]) -> tuple:
    """Kernel, stride, padding and dilation that suit images of a size."""
    found = []
    for n in size:
        kernel = int(rng.integers(1, min(n, 3) + 1))
        dilation = int(rng.integers(1, 3)) if 2 * (kernel - 1) < n else 1
        found.append((kernel, int(rng.integers(1, 4)), int(rng.integers(0, 3)), dilation))
    return tuple(zip(*found, strict=True))


def there(rng: np.random.Generator, signal: snn.Signal) -> snn.Signal:
    """A current of another shape."""
    if len(signal.shape) == 3 and min(signal.shape[1:]) > 1 and rng.random() < 0.7:
        signal = signal >> pool(rng)
    if rng.random() < 0.4:
        signal = signal >> snn.Dropout([0.5, 0.75][rng.integers(2)])
    elif rng.random() < 0.4:
        signal = signal * 0.25
    flat = len(signal.shape) == 2
    size = (1, *signal.shape[1:]) if flat else signal.shape[1:]
    groups = [1, signal.shape[0]][rng.integers(2)]
    return signal >> conv(rng, signal.shape, groups * int(rng.integers(1, 6)), window(rng, size), groups)


def back(rng: np.random.Generator, signal: snn.Signal, shape: tuple[int, ...]) -> snn.Signal:
    """A current of a given shape: windows with as much room around as that takes."""
    flat = len(shape) == 2
    old, new = (((1, *s[1:]) if flat else s[1:]) for s in (signal.shape, shape))
    window = []
    for i, (n, m) in enumerate(zip(old, new, strict=True)):
        fit = [
            (k, d, (m - n + d * (k - 1)) // 2)
            for k in ((1,) if flat and i == 0 else (1, 2, 3))
            for d in (1, 2)
            if m - n + d * (k - 1) >= 0 and (m - n + d * (k - 1)) % 2 == 0
        ]
        fit = fit or [(n - m + 1, 1, 0)]
        kernel, dilation, padding = fit[rng.integers(len(fit))]
        window.append((kernel, 1, padding, dilation))
    if rng.random() < 0.3:
        signal = signal >> snn.Dropout(0.5)
    return signal >> conv(rng, signal.shape, shape[0], tuple(zip(*window, strict=True)))


def image_cycle(seed: int, flat: bool = False) -> snn.Model:
    """Two or three populations in a ring, the first of them recurrent on itself, too."""

    @snn.model(dt=1 * ms)
    def network(x=snn.Spikes(INPUT[:1] + INPUT[2:] if flat else INPUT, max=3)):
        rng = np.random.default_rng(seed)
        count, late = int(rng.integers(2, 4)), int(rng.integers(1, 4))
        current = there(rng, x)
        shape, own = current.shape, snn.Feedback(current.shape)
        current = current + back(rng, own, shape)
        ring = snn.Feedback((int(rng.integers(1, 4)), *shape[1:]), delay=late * ms)
        current = current + back(rng, ring, shape)
        made = [current >> snn.LIF(tau_mem=5 * ms, threshold=0.6, max_spikes_per_dt=3)]
        for i in range(1, count):
            last = i == count - 1
            arriving = back(rng, made[-1], ring.shape) if last else there(rng, made[-1])
            node = [snn.LIF(tau_mem=8 * ms, threshold=0.4), snn.CubaLIF(threshold=0.3)][rng.integers(2)]
            made.append(arriving >> node)
        own.close(made[0])
        ring.close(made[-1])
        return {f"population_{i}": s for i, s in enumerate(made)}

    return network

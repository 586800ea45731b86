"""Handwritten digits as spike trains.

The 1,797 real scans of 8x8 pixels that come with scikit-learn, each pixel an integer from 0 to 16. A pixel becomes a
regular spike train whose rate is its brightness; the phases of the 64 trains are drawn once, with a fixed seed. So the
same scan is always the same spikes.

    python examples/digits/data.py --out demo-out        # writes heldout.npz and heldout-labels.npy
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

STEPS = 32
TOP_RATE = 0.5  # spikes per step of the brightest pixel
HELD_OUT = 360  # scans never trained on: a fifth


@dataclass(frozen=True)
class Split:
    """Scans as spikes ``(scans, STEPS, 64)``, uint8, their digits ``(scans,)``, and their pixels ``(scans, 64)``."""

    spikes: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray


def phases() -> np.ndarray:
    """Where in its period each pixel's train begins, ``(64,)``, from 0 to 1: drawn once, the same every time."""
    return np.random.default_rng(0).random(64)


def encode(pixels: np.ndarray) -> np.ndarray:
    """Spike trains of pixels from 0 to 16: ``(scans, 64)`` -> ``(scans, STEPS, 64)`` of 0 and 1."""
    rates = TOP_RATE * pixels[:, None, :] / 16
    steps = np.arange(STEPS + 1)[None, :, None]
    return np.diff(np.floor(steps * rates + phases()), axis=1).astype(np.uint8)


def load() -> tuple[Split, Split]:
    """The training scans and the held-out ones; the split is the same every time."""
    scans = load_digits()
    order = np.random.default_rng(1).permutation(len(scans.target))
    whole = encode(scans.data[order]), scans.target[order], scans.data[order]
    return Split(*(part[HELD_OUT:] for part in whole)), Split(*(part[:HELD_OUT] for part in whole))


def main() -> None:
    """Write the held-out scans and their labels."""
    parser = argparse.ArgumentParser(description="Write the held-out digits as spike trains.")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="directory to write to (default: demo-out)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    _, heldout = load()
    np.savez_compressed(out / "heldout.npz", x=heldout.spikes.astype(np.float32))
    np.save(out / "heldout-labels.npy", heldout.labels)
    print(f"{len(heldout.labels)} held-out scans, {STEPS} steps each: {out / 'heldout.npz'}")


if __name__ == "__main__":
    main()

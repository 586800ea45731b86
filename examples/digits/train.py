"""Train the compiled network with surrogate gradients.

    python examples/digits/train.py --out demo-out       # writes weights.safetensors
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import Split, load
from model import digits
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file

import snncompile as snn

BATCH = 64
RATE = 4e-3
SPIKES_WANTED = 0.1  # hidden spikes per neuron and step above which a penalty sets in


def scores(net: snn.Network, x: torch.Tensor) -> torch.Tensor:
    """One number per digit: the readout's mean over time."""
    return net(x).mean(1)


def loss_of(net: snn.Network, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and a small price on hidden neurons that fire more than they need to."""
    out, _, record = net.evolve(x, record="lif.spikes:mean")
    busy = F.relu(record["lif.spikes:mean"] - SPIKES_WANTED)
    return F.cross_entropy(out.mean(1), y, label_smoothing=0.05) + busy.square().mean()


@torch.no_grad()
def accuracy(net: snn.Network, split: Split) -> float:
    """Share of scans whose highest score is that of their digit."""
    found = scores(net, torch.from_numpy(split.spikes)).argmax(1).numpy()
    return float(np.mean(found == split.labels))


def train(seed: int = 0, epochs: int = 30, show: bool = True) -> tuple[snn.Network, float]:
    """A trained network and its accuracy on the held-out scans, which it has not seen."""
    torch.manual_seed(seed)
    training, heldout = load()
    x, y = torch.from_numpy(training.spikes), torch.from_numpy(training.labels)
    net = snn.compile(digits)
    decays = [p for n, p in net.named_parameters() if n not in net.family("taus")]
    groups = [{"params": decays}, {"params": list(net.family("taus").values()), "lr": RATE * 1e-2}]  # taus are seconds
    optimiser = torch.optim.Adam(groups, lr=RATE)
    batches = len(y) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=[RATE, RATE * 1e-2], total_steps=epochs * batches
    )
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, TimeRemainingColumn(), disable=not show) as progress:
        bar = progress.add_task("epochs", total=epochs, said="")
        for _ in range(epochs):
            total = 0.0
            for pick in torch.randperm(len(y)).split(BATCH)[:batches]:
                loss = loss_of(net, x[pick], y[pick])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                net.clamp_()
                total += float(loss.detach())
            progress.update(bar, advance=1, said=f"loss {total / batches:.3f}")
    return net.eval(), accuracy(net, heldout)


def main() -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description="Train the spiking digit classifier.")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="directory to write to (default: demo-out)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)  # small products: more threads only wait for each other
    start = time.perf_counter()
    net, found = train(args.seed, args.epochs)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), args.out / "weights.safetensors")
    said = f"trained in {time.perf_counter() - start:.0f} s, {found:.1%} of the held-out scans right"
    print(f"{said}: {args.out / 'weights.safetensors'}")


if __name__ == "__main__":
    main()

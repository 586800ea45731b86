"""Microseconds per step of a layer that learns on this GPU, in one kernel, against the step-by-step loop.

    python benchmarks/gpu_plastic.py [--steps 350] [--repeat 20]

A layer of ExpSyn, LIF and STDP learns from random spike trains of one sequence, 784 to 100 first, then layers with more
inputs, up to one whose weights are streamed. Times are medians of CUDA events after a warm-up. The design was estimated
at 0.5 to 1 microseconds per step; what is printed here is what counts.
"""

from __future__ import annotations

import argparse
import sys

import torch
from gpu_timing import machine, median_milliseconds, no_gpu

import snncompile as snn
from snncompile import ms
from snncompile.targets.plastic_layer import PlasticLayer, match, plan_of

#: Inputs and outputs.
SHAPES = ((784, 100), (784, 400), (2312, 400), (4096, 400), (8192, 1024))


def layer(ins: int, outs: int) -> snn.Model:
    """A layer that learns by STDP."""
    weight = torch.rand(outs, ins) * 0.3

    @snn.model(dt=1 * ms)
    def net(x=snn.Spikes(ins)):
        connection = snn.Linear(outs, bias=False, init=weight)
        h = x >> connection >> snn.ExpSyn(tau=5 * ms) >> snn.LIF(threshold=1.0 + ins / 100)
        snn.learn(connection, snn.STDP())
        return h

    return net


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    if no_gpu("gpu_plastic"):
        return 1
    torch.manual_seed(0)
    print(f"{machine()}; one sequence of {options.steps} steps")
    print(f"{'layer':<14} {'one kernel':>13} {'loop':>13}   microseconds per step")
    for ins, outs in SHAPES:
        model = layer(ins, outs)
        x = (torch.rand(1, options.steps, ins, device="cuda") < 0.05).float()
        each = []
        for target, repeat in (("triton", options.repeat), ("torch", 3)):
            net = snn.compile(model, target=target).to("cuda")
            with torch.no_grad():
                time = median_milliseconds(lambda net=net, x=x: net.evolve(x), repeat)
            each.append(1000 * time / options.steps)
        print(f"{ins:>6} to {outs:<4} {each[0]:>13.2f} {each[1]:>13.2f}   {_plan(model)}")
    return 0


def _plan(model: snn.Model) -> str:
    from snncompile.passes.pipeline import Request, compile_graph

    graph = compile_graph(model.build(), Request())
    found = next(match(graph, region) for region in graph.regions if region.kind == "plastic")
    assert isinstance(found, PlasticLayer), found
    return plan_of(graph, found, "triton")


if __name__ == "__main__":
    sys.exit(main())

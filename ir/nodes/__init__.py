"""The nodes a model is written with. Each class is at once the model's word, the IR's node and its meaning."""

from snncompile.ir.nodes.arithmetic import Add, Scale
from snncompile.ir.nodes.base import Block, ElementwiseNode, Node
from snncompile.ir.nodes.connections import Linear
from snncompile.ir.nodes.conv import Conv1d, Conv2d
from snncompile.ir.nodes.delays import Delay
from snncompile.ir.nodes.dropout import Dropout
from snncompile.ir.nodes.izhikevich import Izhikevich
from snncompile.ir.nodes.neurons import ALIF, IF, LI, LIF, CubaLIF
from snncompile.ir.nodes.noise import normal, uniform
from snncompile.ir.nodes.normalization import BatchNorm
from snncompile.ir.nodes.plasticity import MSTDPET, STDP, TripletSTDP
from snncompile.ir.nodes.pooling import AvgPool2d, MaxPool2d, SumPool2d
from snncompile.ir.nodes.rule_decorator import plasticity
from snncompile.ir.nodes.rules import Rule
from snncompile.ir.nodes.shape import Flatten
from snncompile.ir.nodes.sources import BernoulliEncoder, PoissonEncoder
from snncompile.ir.nodes.sparse import Sparse
from snncompile.ir.nodes.spiking import spike
from snncompile.ir.nodes.surrogates import (
    ATan,
    FastSigmoid,
    PeriodicExponential,
    Sigmoid,
    StepPWL,
    Surrogate,
    Triangle,
)
from snncompile.ir.nodes.synapses import AlphaSyn, DoubleExpCurrent, ExpCurrent, ExpSyn
from snncompile.ir.nodes.user import Const, UserNode, neuron, synapse
from snncompile.ir.nodes.weights import ConnectionNode

__all__ = [
    "ALIF",
    "IF",
    "LI",
    "LIF",
    "MSTDPET",
    "STDP",
    "ATan",
    "Add",
    "AlphaSyn",
    "AvgPool2d",
    "BatchNorm",
    "BernoulliEncoder",
    "Block",
    "ConnectionNode",
    "Const",
    "Conv1d",
    "Conv2d",
    "CubaLIF",
    "Delay",
    "DoubleExpCurrent",
    "Dropout",
    "ElementwiseNode",
    "ExpCurrent",
    "ExpSyn",
    "FastSigmoid",
    "Flatten",
    "Izhikevich",
    "Linear",
    "MaxPool2d",
    "Node",
    "PeriodicExponential",
    "PoissonEncoder",
    "Rule",
    "Scale",
    "Sigmoid",
    "Sparse",
    "StepPWL",
    "SumPool2d",
    "Surrogate",
    "Triangle",
    "TripletSTDP",
    "UserNode",
    "neuron",
    "normal",
    "plasticity",
    "spike",
    "synapse",
    "uniform",
]

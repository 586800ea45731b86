"""Rockpool's module interface on compiled networks: :func:`as_module`."""

from snncompile.interop.rockpool.graphs import GraphHolder, GraphModule, GraphNode
from snncompile.interop.rockpool.module import Module
from snncompile.interop.rockpool.network_module import NetworkModule, NodeModule, as_module
from snncompile.interop.rockpool.series import TSContinuous, TSEvent
from snncompile.interop.rockpool.timed import TimedModule
from snncompile.interop.rockpool.trees import Tree, tree_map

__all__ = [
    "GraphHolder",
    "GraphModule",
    "GraphNode",
    "Module",
    "NetworkModule",
    "NodeModule",
    "TSContinuous",
    "TSEvent",
    "TimedModule",
    "Tree",
    "as_module",
    "tree_map",
]

"""Trees: nested dictionaries of attributes, as Rockpool's modules give and take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


class Tree(dict[str, Any]):
    """A nested dictionary of attributes: attribute name -> value, submodule name -> tree."""

    def astorch(self) -> Iterator[Tensor]:
        """Every tensor in it, each once: what an optimiser takes."""
        seen: set[int] = set()
        for value in leaves(self):
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield value


def leaves(tree: Any) -> Iterator[Any]:
    """What is no dictionary, in order."""
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from leaves(value)
    else:
        yield tree


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """``tree`` with ``function`` applied to every leaf, e.g. ``tree_map(torch.Tensor.detach, new_state)``."""
    if isinstance(tree, Mapping):
        return Tree({name: tree_map(function, value) for name, value in tree.items()})
    return function(tree)

"""Modules: a compiled network, and each of its nodes, behind the interface of Rockpool's modules.

As with Rockpool's Jax modules nothing changes in place: what sets or resets returns the updated module.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from snncompile.interop.rockpool.attributes import PARAMETER, SIMULATION, STATE, Attribute
from snncompile.interop.rockpool.batching import auto_batch
from snncompile.interop.rockpool.series import seconds
from snncompile.interop.rockpool.store import Store
from snncompile.interop.rockpool.trees import Tree, leaves
from snncompile.ir.errors import InputError, ModelError

if TYPE_CHECKING:
    from snncompile.interop.rockpool.graphs import GraphHolder
    from snncompile.interop.rockpool.timed import TimedModule
    from snncompile.ir.graph import Graph
    from snncompile.network import Network

Family = str | Sequence[str] | None
_FIXED = "it is compiled. Add it to the model (a parameter to its node), and compile that again"


class Module:
    """What the modules of a network and of a node have in common.

    Attributes and submodules are found as attributes, too: ``module.lif.tau_mem``.

    Attributes:
        graph: the IR of what this module computes.
    """

    graph: Graph
    _store: Store
    _own: Mapping[str, Attribute]
    _name: str | None
    _class_name: str
    _shape: tuple[int, ...]
    _spiking_input: bool
    _spiking_output: bool

    # -- running -----------------------------------------------------------------------------------------------------

    def evolve(self, input_data: Any, record: bool | str | Sequence[str] = False) -> tuple[Any, Tree, Tree]:
        """Run over ``input_data`` from this module's state. Pure: to go on, ``module.set_attributes(new_state)``.

        Args:
            input_data: ``(batch, time, size_in)``, or ``(time, size_in)`` for a batch of one; a tensor or an array.
                ``(time,)`` and one channel go to every input channel. Several inputs: a dictionary by name, a tuple,
                or their channels side by side. A module without inputs takes ``(batch, time, 0)``.
            record: True for every state and output of every node; also names, as for :meth:`Network.evolve`.

        Returns:
            the output ``(batch, time, *features)`` (a tuple or dictionary of them where the network returns several);
            the new state as a tree, without a batch axis where the batch is one; the record as a tree, where
            ``<node>_output`` is what a node sends. All are differentiable.

        Raises:
            InputError: for data that does not fit, and a state of another batch size.
        """
        raise TypeError(f"{type(self).__name__} does not run")

    def __call__(self, input_data: Any, *args: Any, **kwargs: Any) -> tuple[Any, Tree, Tree]:
        """:meth:`evolve`. What another module returned is taken, too: its state and record are handed on, with this
        module's own under its name."""
        if not _is_result(input_data):
            return self.evolve(input_data, *args, **kwargs)
        data, state, record = input_data
        output, new_state, new_record = self.evolve(data, *args, **kwargs)
        return output, Tree({**state, self.name: new_state}), Tree({**record, self.name: new_record})

    def forward(self, input_data: Any) -> Any:
        """The output of :meth:`evolve` alone."""
        return self.evolve(input_data)[0]

    def to_torch(self) -> Network:
        """The network as a ``torch.nn.Module``, with this module's values of parameters.

        It is the network this module was made of unless parameters were set or reset since.
        """
        raise TypeError(f"{type(self).__name__} does not run")

    # -- attributes --------------------------------------------------------------------------------------------------

    def parameters(self, family: Family = None) -> Tree:
        """What is trained, as a tree; ``.astorch()`` gives an optimiser its tensors.

        Args:
            family: one family or several, e.g. ``"taus"``: only those, and no empty submodules. An unknown one gives an
                empty tree.
        """
        return self._get_attribute_family(PARAMETER, family)

    def simulation_parameters(self, family: Family = None) -> Tree:
        """The time step, settings of nodes, and parameters that are not trained, as a tree."""
        return self._get_attribute_family(SIMULATION, family)

    def state(self, family: Family = None) -> Tree:
        """The state, as a tree: ``(*features)``, or ``(batch, *features)`` once set from a larger batch."""
        return self._get_attribute_family(STATE, family)

    def attributes_named(self, name: str | Sequence[str]) -> Tree:
        """Every attribute of one of the names, as a tree without empty submodules."""
        names = _several(name)
        found = Tree({n: self._read(a) for n, a in self._own.items() if n in names})
        for child, module in self.modules().items():
            inside = module.attributes_named(names)
            if inside:
                found[child] = inside
        return found

    def set_attributes(self, new_attributes: Mapping[str, Any]) -> Self:
        """The module with new parameters and states, from a tree such as ``evolve`` or ``parameters`` returns.

        A tensor that requires a gradient is used as it is, so that a loss reaches it; everything else becomes a
        parameter of its own. This module stays as it is.

        Raises:
            InputError: for a name that is no attribute or submodule, with the nearest one, and for wrong shapes.
            ModelError: for a value that breaks its constraint, and for settings, which are compiled in.
        """
        values: dict[str, Any] = {}
        state: dict[str, Any] = {}
        self._collect(new_attributes, values, state)
        return self._with(self._store.changed(values, state))

    def reset_state(self) -> Self:
        """The module with the state from before the first step; random seeds are drawn anew."""
        return self._with(self._store.initial(self._keys(STATE)))

    def reset_parameters(self) -> Self:
        """The module with first values for every parameter that is trained; random ones are drawn anew."""
        return self._with(self._store.redrawn(self._keys(PARAMETER)))

    def modules(self) -> OrderedDict[str, Module]:
        """Submodules by the names of the nodes."""
        return OrderedDict()

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def class_name(self) -> str:
        """``"Network"``, or the class of the node."""
        return self._class_name

    @property
    def name(self) -> str:
        """The name in quotes, as Rockpool gives it: ``"'lif'"``; empty where there is none."""
        return f"'{self._name}'" if self._name else ""

    @property
    def full_name(self) -> str:
        """Class and name."""
        return f"{self.class_name} {self.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        """``(size_in, size_out)``, or ``(size,)`` of a synapse or neuron."""
        return self._shape

    @property
    def size_in(self) -> int:
        """Number of input channels, of all inputs together."""
        return self._shape[0]

    @property
    def size_out(self) -> int:
        """Number of output channels, of the first output."""
        return self._shape[-1]

    @property
    def size(self) -> int:
        """Deprecated, as in Rockpool: :attr:`size_out`."""
        warnings.warn("`size` is deprecated, use `size_out`", DeprecationWarning, stacklevel=2)
        return self.size_out

    @property
    def dt(self) -> float:
        """The time step in seconds."""
        return self.graph.dt

    @property
    def spiking_input(self) -> bool:
        """Whether every input takes spikes."""
        return self._spiking_input

    @property
    def spiking_output(self) -> bool:
        """Whether the first output sends spikes."""
        return self._spiking_output

    def as_graph(self) -> GraphHolder:
        """The computational graph, in the manner of ``rockpool.graph``: modules joined by one node per channel."""
        from snncompile.interop.rockpool.graphs import as_graph

        return as_graph(self)

    def timed(self, output_num: int = 0, dt: float | None = None, add_events: bool = False) -> TimedModule:
        """This module for signals with a clock: ``TSEvent`` and ``TSContinuous``.

        Args:
            output_num: which output to return, where there are several.
            dt: ignored with a warning where it is not the module's own, which every module has.
            add_events: count events that fall into one step; otherwise they are one.
        """
        from snncompile.interop.rockpool.timed import TimedModule

        if dt is not None and not math.isclose(seconds("dt", dt), self.dt):
            warnings.warn(f"dt={dt:g} is ignored: the module has a time step, {self.dt:g} s", stacklevel=2)
        return TimedModule(self, output_num, add_events=add_events)

    # -- trees -------------------------------------------------------------------------------------------------------

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """``(children, aux_data)``: trees of tensors (parameters, simulation parameters, state), and all else."""
        tensors = _only_tensors(self.simulation_parameters())
        return (self.parameters(), tensors, self.state()), (self._name, self._shape, self._submodulenames, self)

    @classmethod
    def tree_unflatten(cls, aux_data: tuple[Any, ...], children: Sequence[Any]) -> Self:
        """The module of :meth:`tree_flatten` with other leaves, which are taken unchecked, as they are."""
        *_, like = aux_data
        values: dict[str, Any] = {}
        state: dict[str, Any] = {}
        for child in children:
            like._collect(child, values, state)
        store = like._store
        return like._with(replace(store, values={**store.values, **values}, state={**store.state, **state}))

    def __repr__(self) -> str:
        return self._described("")

    def __getitem__(self, item: int | str) -> Module:
        """A submodule by place or name."""
        modules = self.modules()
        return modules[item] if isinstance(item, str) else list(modules.values())[item]

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules().values())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and "_own" in self.__dict__:
            if name in self._own:
                return self._read(self._own[name])
            modules = self.modules()
            if name in modules:
                return modules[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_own", ()) or name in self.__dict__.get("_nodes", ()):
            raise AttributeError(f"modules do not change in place: module = module.set_attributes({{{name!r}: ...}})")
        super().__setattr__(name, value)

    # -- Rockpool's own helpers --------------------------------------------------------------------------------------

    #: Values are checked whenever they are set, and no module is ever half made.
    _force_set_attributes = False
    _in_Module_init = False

    @property
    def _submodulenames(self) -> list[str]:
        return list(self.modules())

    def _get_attribute_family(self, type_name: str, family: Family = None) -> Tree:
        if type_name not in (PARAMETER, SIMULATION, STATE):
            raise InputError(f"attributes are {PARAMETER}, {SIMULATION} or {STATE}, not {type_name!r}")
        wanted = None if family is None else _several(family)
        found = Tree()
        for name, a in self._own.items():
            if a.kind == type_name and (wanted is None or a.family in wanted):
                found[name] = self._read(a)
        for child, module in self.modules().items():
            inside = module._get_attribute_family(type_name, wanted)
            if inside or wanted is None:
                found[child] = inside
        return found

    def _has_registered_attribute(self, name: str) -> bool:
        return name in self._own

    def _get_attribute_registry(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """Attributes and modules of its own, by name: ``[value, kind, family, None, shape]`` and ``[module, class
        name]``. None stands where Rockpool has a function for first values: see :meth:`_reset_attribute`."""
        attributes = {}
        for name, a in self._own.items():
            value = self._read(a)
            attributes[name] = [value, a.kind, a.family, None, tuple(value.shape) if isinstance(value, Tensor) else ()]
        return attributes, {name: [module, module.class_name] for name, module in self.modules().items()}

    def _register_attribute(self, name: str, val: Any) -> None:
        raise AttributeError(f"{self.full_name} takes no new attribute {name!r}: {_FIXED}")

    def _register_module(self, name: str, mod: Any) -> None:
        raise AttributeError(f"{self.full_name} takes no new module {name!r}: {_FIXED}")

    def _reset_attribute(self, name: str) -> Self:
        """The module with the first value of one attribute of its own."""
        if name not in self._own:
            raise KeyError(f"{name} is not a registered attribute.")
        a = self._own[name]
        if a.kind == STATE:
            return self._with(self._store.initial({a.key}))
        return self._with(self._store.redrawn({a.key}))

    def _auto_batch(
        self, data: Any, states: Sequence[Tensor] = (), target_shapes: Sequence[tuple[int, ...] | None] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return auto_batch(data, states, target_shapes, self.size_in)

    def _wrap_recorded_state(self, recorded_dict: Mapping[str, Any], t_start: float = 0.0) -> Tree:
        """The first sequence of a record as clocked signals."""
        from snncompile.interop.rockpool.timed import wrapped_record

        return wrapped_record(self, recorded_dict, t_start)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _with(self, store: Store) -> Self:
        raise TypeError(f"{type(self).__name__} holds nothing")

    def _read(self, a: Attribute) -> Any:
        if not a.key:
            return a.setting
        return self._store.state_of(a.key) if a.kind == STATE else self._store.value(a.key)

    def _keys(self, kind: str) -> set[str]:
        own = {a.key for a in self._own.values() if a.kind == kind and a.key}
        return own.union(*(module._keys(kind) for module in self.modules().values()))

    def _collect(self, tree: Mapping[str, Any], values: dict[str, Any], state: dict[str, Any]) -> None:
        """Sort the leaves of a tree of attributes into parameters and states, by their names in the network."""
        if not isinstance(tree, Mapping):
            raise InputError(f"{self.full_name} takes a dictionary of attributes, not a {type(tree).__name__}")
        modules = self.modules()
        for name, value in tree.items():
            if name in modules:
                modules[name]._collect(value, values, state)
                continue
            a = self._own.get(name)
            if a is None:
                known = [*self._own, *modules]
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                said = f"{self.full_name} has no attribute or submodule {name!r}.{hint}"
                raise InputError(f"{said} It has: {', '.join(known) or 'none'}")
            if not a.key:
                if not _equal(value, a.setting):
                    raise ModelError(
                        f"{name} of {self.full_name} is {a.setting!r} and part of the compiled network: compile the"
                        f" model again to make it {value!r}"
                    )
                continue
            given = state if a.kind == STATE else values
            if a.key in given and not _equal(given[a.key], value):
                raise InputError(f"{a.key} is given twice, with different values: nodes that share it have one value")
            given[a.key] = value

    def _described(self, indent: str) -> str:
        said = f"{indent}{self.full_name} with shape {self.shape}"
        inside = [module._described(indent + "    ") for module in self.modules().values()]
        return "\n".join([said + " {", *inside, indent + "}"]) if inside else said


def _several(names: Any) -> tuple[Any, ...]:
    """One name or several, as Rockpool tells them apart: several are a tuple or a list."""
    return tuple(names) if isinstance(names, (tuple, list)) else (names,)


def _is_result(data: Any) -> bool:
    return isinstance(data, tuple) and len(data) == 3 and all(isinstance(part, Mapping) for part in data[1:])


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and bool((a == b).all())
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and bool(a == b)


def _only_tensors(tree: Tree) -> Tree:
    found = Tree()
    for name, value in tree.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Mapping) and any(isinstance(leaf, Tensor) for leaf in leaves(value)):
            found[name] = _only_tensors(Tree(value))
    return found

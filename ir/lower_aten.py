"""Lowering: what each aten operation is in terms of the closed list of ``ir/ops.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from snncompile.ir.program import Arg


class Recorder(Protocol):
    """What writes the operations down.

    Attributes:
        values: address of a storage -> the value it holds.
    """

    values: dict[int, Arg]

    def bind(self, tensor: Tensor, value: Arg) -> None:
        """``tensor`` holds ``value`` from now on."""
        ...

    def value(self, arg: Any) -> Arg:
        """The value of an operand."""
        ...

    def emit(self, op: str, *args: Arg) -> str:
        """Write down one operation; its name."""
        ...

    def is_bool(self, arg: Arg) -> bool:
        """Whether an operand is a bool."""
        ...

    def as_float(self, arg: Arg) -> Arg:
        """An operand as float32."""
        ...


class NotElementwise(Exception):
    """The step function did something that no elementwise program can say."""


_UNARY = {
    "neg": "neg", "abs": "abs", "floor": "floor", "ceil": "ceil", "sqrt": "sqrt", "exp": "exp",
    "sigmoid": "sigmoid", "tanh": "tanh", "log": "log", "log1p": "log1p", "expm1": "expm1", "sin": "sin",
    "cos": "cos", "tan": "tan",
}  # fmt: skip
_BINARY = {"mul": "mul", "div": "div", "minimum": "min", "maximum": "max"}
_COMPARE = {"lt": "lt", "le": "le", "gt": "gt", "ge": "ge", "eq": "eq", "ne": "ne"}
_LOGIC = {"logical_and": "and", "logical_or": "or", "bitwise_and": "and", "bitwise_or": "or"}
_SAME = {"detach", "alias", "clone", "lift_fresh", "lift_fresh_copy", "view_as", "positive", "contiguous"}
_FILLS = {"zeros_like": 0.0, "ones_like": 1.0, "new_zeros": 0.0, "new_ones": 1.0, "zeros": 0.0, "ones": 1.0}
_HINTS = {
    "_local_scalar_dense": "it depends on data (a Python `if`, `.item()` or `float()` of a tensor). "
    "Use torch.where",
    "is_nonzero": "it depends on data (a Python `if` on a tensor). Use torch.where",
    "lerp": "torch.lerp contracts its product on some machines. Write a + w * (b - a)",
    "addcmul": "torch.addcmul contracts its product on some machines. Write a + value * b * c",
    "addcdiv": "torch.addcdiv contracts its product on some machines. Write a + value * b / c",
    "round": "torch.round is not available. Use torch.floor(x + 0.5)",
}
_RANDOM = {"rand", "randn", "rand_like", "randn_like", "bernoulli", "normal", "normal_", "bernoulli_", "uniform_"}


class Lowering:
    """Executes one aten call and records what it is."""

    def __init__(self, recorder: Recorder) -> None:
        self.r = recorder

    def run(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """The result of ``func``, recorded."""
        name = func.overloadpacket.__name__
        base = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        rule = self._rule(base, args)
        if rule is None:
            raise NotElementwise(self._reason(name, base))
        value = rule(base, args, kwargs)  # before the call: an in-place call changes what its arguments mean
        result = func(*args, **kwargs)
        self._check_shape(name, result)
        self.r.bind(result, value)
        return result

    def _rule(self, base: str, args: tuple) -> Callable[[str, tuple, dict], Arg] | None:
        for table, rule in (
            (_UNARY, self._unary), (_BINARY, self._binary), (_COMPARE, self._compare), (_LOGIC, self._logic),
            (_SAME, self._same), (_FILLS, self._fill),
        ):  # fmt: skip
            if base in table:
                return rule
        return getattr(self, f"_op_{base}", None)

    def _reason(self, name: str, base: str) -> str:
        if name in _RANDOM or base in _RANDOM:
            return (
                f"torch.{base} draws other random numbers on every machine. Use snn.uniform() or snn.normal(), which"
                " are the same on every target"
            )
        hint = _HINTS.get(base)
        if hint:
            return hint
        return (
            f"the operation aten.{base} is not elementwise or not known. A step function may use + - * /, comparisons,"
            " torch.where, minimum, maximum, clamp, floor, ceil, abs, sqrt, exp, sigmoid, tanh, relu, pow by 2, 3,"
            " 0.5 or -1; on parameters alone also log, log1p, expm1, sin, cos and tan"
        )

    @staticmethod
    def _check_shape(name: str, result: Any) -> None:
        if not isinstance(result, Tensor) or result.dim() > 1:
            raise NotElementwise(f"aten.{name} is not elementwise")

    # -- groups ------------------------------------------------------------------------------------------------------

    def _floats(self, args: tuple) -> list[Arg]:
        return [self.r.as_float(self.r.value(a)) for a in args]

    def _unary(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit(_UNARY[base], *self._floats(args[:1]))

    def _binary(self, base: str, args: tuple, kwargs: dict) -> Arg:
        if kwargs.get("rounding_mode") == "floor":
            return self.r.emit("floor", self.r.emit("div", *self._floats(args[:2])))
        if kwargs.get("rounding_mode"):
            raise NotElementwise(f"rounding_mode={kwargs['rounding_mode']!r} is not available. Use floor")
        return self.r.emit(_BINARY[base], *self._floats(args[:2]))

    def _compare(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit(_COMPARE[base], *self._floats(args[:2]))

    def _logic(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit(_LOGIC[base], *[self._bool(a) for a in args[:2]])

    def _bool(self, arg: Any) -> Arg:
        value = self.r.value(arg)
        if self.r.is_bool(value):
            return value
        return self.r.emit("ne", value, 0.0)

    def _same(self, base: str, args: tuple, kwargs: dict) -> Arg:
        tensor = args[0]
        if base.startswith("lift") and tensor.data_ptr() not in self.r.values and tensor.dim() == 0:
            return self._constant(tensor.item())  # torch.tensor(0.5) written inside the step
        return self.r.value(tensor)

    def _fill(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return bool(_FILLS[base]) if kwargs.get("dtype") is torch.bool else _FILLS[base]

    @staticmethod
    def _constant(value: Any) -> Arg:
        if isinstance(value, bool):
            return value
        return torch.tensor(float(value), dtype=torch.float32).item()

    # -- single operations -------------------------------------------------------------------------------------------

    def _op_add(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._scaled("add", args, kwargs)

    def _op_sub(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._scaled("sub", args, kwargs)

    def _op_rsub(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._scaled("sub", (args[1], args[0], *args[2:]), kwargs)

    def _scaled(self, op: str, args: tuple, kwargs: dict) -> Arg:
        if kwargs.get("alpha", 1) != 1 or (len(args) > 2 and args[2] != 1):
            raise NotElementwise("add and sub with alpha= contract on some machines. Write the product out")
        return self.r.emit(op, *self._floats(args[:2]))

    def _op_reciprocal(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit("div", 1.0, *self._floats(args[:1]))

    def _op_rsqrt(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit("div", 1.0, self.r.emit("sqrt", *self._floats(args[:1])))

    def _op_square(self, base: str, args: tuple, kwargs: dict) -> Arg:
        (x,) = self._floats(args[:1])
        return self.r.emit("mul", x, x)

    def _op_pow(self, base: str, args: tuple, kwargs: dict) -> Arg:
        if isinstance(args[1], Tensor) or not isinstance(args[0], Tensor):
            raise NotElementwise("a power needs a constant exponent: 2, 3, 0.5, -1 or -2")
        (x,) = self._floats(args[:1])
        exponent = float(args[1])
        if exponent == 0.0:
            return 1.0
        if exponent == 1.0:
            return x
        if exponent in (0.5, -0.5):
            root = self.r.emit("sqrt", x)
            return root if exponent > 0 else self.r.emit("div", 1.0, root)
        if exponent not in (2.0, 3.0, -1.0, -2.0):
            raise NotElementwise(f"the power {exponent:g} is not available: use 2, 3, 0.5, -0.5, -1 or -2")
        power = x if abs(exponent) == 1.0 else self.r.emit("mul", x, x)
        if exponent == 3.0:
            power = self.r.emit("mul", power, x)
        return power if exponent > 0 else self.r.emit("div", 1.0, power)

    def _op_relu(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit("max", *self._floats(args[:1]), 0.0)

    def _op_clamp(self, base: str, args: tuple, kwargs: dict) -> Arg:
        low = args[1] if len(args) > 1 else kwargs.get("min")
        high = args[2] if len(args) > 2 else kwargs.get("max")
        (value,) = self._floats(args[:1])
        if low is not None:
            value = self.r.emit("max", value, *self._floats((low,)))
        if high is not None:
            value = self.r.emit("min", value, *self._floats((high,)))
        return value

    def _op_clamp_min(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit("max", *self._floats(args[:2]))

    def _op_clamp_max(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit("min", *self._floats(args[:2]))

    _op_hardtanh = _op_clamp

    def _op_where(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit("where", self._bool(args[0]), *self._floats(args[1:3]))

    def _op_masked_fill(self, base: str, args: tuple, kwargs: dict) -> Arg:
        x, fill = self._floats((args[0], args[2]))
        return self.r.emit("where", self._bool(args[1]), fill, x)

    def _op_heaviside(self, base: str, args: tuple, kwargs: dict) -> Arg:
        x, at_zero = self._floats(args[:2])
        above = self.r.emit("float", self.r.emit("gt", x, 0.0))
        return self.r.emit("where", self.r.emit("eq", x, 0.0), at_zero, above)

    def _op_sign(self, base: str, args: tuple, kwargs: dict) -> Arg:
        (x,) = self._floats(args[:1])
        negative = self.r.emit("float", self.r.emit("lt", x, 0.0))
        return self.r.emit("sub", self.r.emit("float", self.r.emit("gt", x, 0.0)), negative)

    _op_sgn = _op_sign

    def _op_logical_not(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.emit("not", self._bool(args[0]))

    _op_bitwise_not = _op_logical_not

    def _op_logical_xor(self, base: str, args: tuple, kwargs: dict) -> Arg:
        a, b = (self._bool(x) for x in args[:2])
        both = self.r.emit("and", a, b)
        return self.r.emit("and", self.r.emit("or", a, b), self.r.emit("not", both))

    def _op_isnan(self, base: str, args: tuple, kwargs: dict) -> Arg:
        (x,) = self._floats(args[:1])
        return self.r.emit("ne", x, x)

    def _op_scalar_tensor(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._constant(args[0])

    def _op_full_like(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._constant(args[1])

    _op_full = _op_full_like

    def _op_new_full(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._constant(args[2])

    def _op_fill(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self.r.value(args[1]) if isinstance(args[1], Tensor) else self._constant(args[1])

    def _op_zero(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return 0.0

    def _op_copy(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._cast(self.r.value(args[1]), args[0].dtype)

    def _op__to_copy(self, base: str, args: tuple, kwargs: dict) -> Arg:
        return self._cast(self.r.value(args[0]), kwargs.get("dtype") or args[0].dtype)

    def _cast(self, value: Arg, dtype: torch.dtype) -> Arg:
        if dtype is torch.float32:
            return self.r.as_float(value)
        if dtype is torch.bool:
            return value if self.r.is_bool(value) else self.r.emit("ne", value, 0.0)
        raise NotElementwise(f"a step computes in float32 and bool, not {str(dtype).removeprefix('torch.')}")

    def _op_expand(self, base: str, args: tuple, kwargs: dict) -> Arg:
        value = self.r.value(args[0])
        if args[0].dim() > 0 and tuple(args[1]) not in (tuple(args[0].shape), (-1,)):
            raise NotElementwise("aten.expand is not elementwise")
        return value

    # -- pieces of torch's own derivatives ---------------------------------------------------------------------------

    def _op_sigmoid_backward(self, base: str, args: tuple, kwargs: dict) -> Arg:
        g, y = self._floats(args[:2])
        return self.r.emit("mul", self.r.emit("mul", g, self.r.emit("sub", 1.0, y)), y)

    def _op_tanh_backward(self, base: str, args: tuple, kwargs: dict) -> Arg:
        g, y = self._floats(args[:2])
        return self.r.emit("mul", g, self.r.emit("sub", 1.0, self.r.emit("mul", y, y)))

    def _op_threshold_backward(self, base: str, args: tuple, kwargs: dict) -> Arg:
        g, x, limit = self._floats(args[:3])
        return self.r.emit("where", self.r.emit("le", x, limit), 0.0, g)

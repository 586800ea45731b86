"""Which ONNX operator sets a file can be written for."""

from __future__ import annotations

from snncompile.ir.errors import InterchangeError

#: The lowest operator set that has every operator in the form used here (Scan, Where, Pow and comparisons).
LOWEST = 13

#: What runtimes of the last years understand: the default.
DEFAULT = 17

#: The highest that is tested.
HIGHEST = 28

#: Local functions came with this version of the file format (ONNX 1.10, operator set 15).
FUNCTIONS_IR = 8

FORMS = ("scan", "step", "unrolled")


def checked_opset(opset: int | None) -> int:
    """``opset``, or the default.

    Raises:
        InterchangeError: where it is outside what this exporter writes, or the installed onnx knows.
    """
    if opset is None:
        return DEFAULT
    if isinstance(opset, bool) or not isinstance(opset, int):
        raise InterchangeError(f"an opset is a whole number, not {opset!r}")
    if opset < LOWEST:
        raise InterchangeError(f"opset {opset} is too low: the lowest that has the operators needed is {LOWEST}")
    if opset > HIGHEST:
        raise InterchangeError(f"opset {opset} is too high: the highest tested is {HIGHEST}")
    from onnx.defs import onnx_opset_version

    if opset > onnx_opset_version():
        raise InterchangeError(
            f"opset {opset} is newer than the installed onnx, which knows {onnx_opset_version()}: upgrade onnx, or ask"
            " for a lower one"
        )
    return opset


def checked_form(form: str, steps: int | None) -> None:
    """Raise :class:`InterchangeError` where there is no such form, or ``steps`` does not go with it."""
    if form not in FORMS:
        raise InterchangeError(f"there is no form {form!r}; the forms are {', '.join(FORMS)}")
    if form != "unrolled":
        if steps is not None:
            raise InterchangeError(f"steps is for form 'unrolled'; a file of form {form!r} takes any length")
        return
    if steps is None:
        raise InterchangeError("form 'unrolled' has a fixed length: say how many time steps, e.g. steps=25")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InterchangeError(f"steps is a whole number of at least 1, not {steps!r}")

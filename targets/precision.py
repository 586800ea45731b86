"""How exact the products inside a recurrent layer are: what a user may ask for.

Other products are torch's, with torch's settings; everything else is float32 (docs/numerics.md).
"""

from __future__ import annotations

from snncompile.ir.errors import UnsupportedError

#: What ``precision=`` takes, and what it means.
PRECISIONS = {
    "auto": "float32-grade, the fastest way that the layer and the chip allow",
    "float32": "float32 operands and IEEE sums",
    "split-fp16": "float32-grade: every weight in two float16 parts, to 2**-22 of its value",
    "tf32": "operands rounded to 11 significant bits (TF32)",
    "fp16": "weights rounded to 11 significant bits (one float16 part)",
}

#: Those that keep less than float32 does: never chosen unless asked for.
LOWER = frozenset({"tf32", "fp16"})

#: Largest whole number up to which every one is a float16.
EXACT_IN_HALF = 2**11
#: Likewise, for the sum of two float16 of suitable scales.
EXACT_IN_HALVES = 2**22


def checked_precision(name: str) -> str:
    """``name`` if it is one.

    Raises:
        UnsupportedError: listing those there are.
    """
    if not isinstance(name, str) or name not in PRECISIONS:
        raise UnsupportedError(f"there is no precision {name!r}; recurrent layers know {', '.join(PRECISIONS)}")
    return name

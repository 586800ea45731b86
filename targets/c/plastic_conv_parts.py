"""Prints the update of the weights of a convolution that learns.

Names of the model are numbered here, as in ``targets/c/plastic_parts.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.plastic_conv_source import LEARN
from snncompile.targets.c.plastic_parts import bare_call, inner_call, numbered
from snncompile.targets.c.printer import Function, call_lines


def print_conv_learning(name: str, update: Function, coefs: Sequence[str], fixed: Sequence[str]) -> str:
    """The function ``name``: the update of the weights from the sums of both products over the batch.

    Args:
        name: its name.
        update: the printed update.
        coefs: the coefficients that it takes, in the order of its arguments.
        fixed: what it takes besides that has a value for each weight, before the coefficients.
    """
    given = numbered("coef", coefs)
    values = {"w": "weight[k]", "potentiation": "p", "depression": "d", **_fixed(fixed), **given}
    return LEARN.format(
        name=name,
        update=bare_call(update, values),
        read_p=int("potentiation" in update.args),
        read_d=int("depression" in update.args),
        coefs="".join(f", {c}" for c in (*_declared(fixed), *(f"float {c}" for c in given.values()))),
        pass_="".join(f", {c}" for c in (*fixed, *given.values())),
    )


def print_conv_synapses(
    name: str,
    synapse: Function,
    update: Function,
    traces: Sequence[str],
    signals: Sequence[str],
    coefs: tuple[Sequence[str], Sequence[str]],
    outs: int,
    fixed: Sequence[str],
) -> str:
    """The function ``name``: every synapse of every sequence, then the update of the weights.

    Args:
        name: its name.
        synapse: the printed program of a synapse.
        update: the printed update.
        traces: the traces that the synapses hold.
        signals: the signals that they hear, in the order of the arguments.
        coefs: the coefficients of either program, in the order of the arguments.
        outs: output channels of the layer.
        fixed: what the update takes besides that has a value for each weight.
    """
    held, told = numbered("trace", traces), numbered("signal", signals)
    own, last = numbered("coef", coefs[0]), numbered("last", coefs[1])
    head = [
        "float *restrict weight", "int64_t N", "int64_t B", "int m", "int wide",
        *(f"const float *restrict {f}" for f in ("pre_p", "pre_d", "post_p", "post_d")), "float *restrict turned",
        "float *restrict room", "float *restrict sums", *(f"float *restrict {p}" for p in held.values()),
        *(f"const float *restrict {s}" for s in told.values()), *(f"int64_t {s}_b" for s in told.values()),
        *(f"float {c}" for c in own.values()), *_declared(fixed), *(f"float {c}" for c in last.values()),
    ]  # fmt: skip
    values = {
        "w": "weight[k]", "potentiation": "p[k]", "depression": "d[k]",
        **{t: f"{p}_now[k]" for t, p in held.items()}, **{s: f"{n}[b * {n}_b]" for s, n in told.items()}, **own,
    }  # fmt: skip
    new = numbered("new", synapse.results)
    read = [(f[0], f"{side}") for f, side in zip(FACTORS, ("p", "d"), strict=True) if f in synapse.args]
    lines = [
        "/* The update of one step for m output channels: every synapse of every sequence, then the weights. */",
        *call_lines(f"static void {name}", head),
        "{",
        "    const int64_t n = (int64_t)m * TAPS;",
        "    float *restrict p = sums, *restrict d = p + n, *restrict change = d + n;",
        "    (void)wide, (void)turned, (void)room, (void)p, (void)d;",
        "    (void)N, (void)pre_p, (void)pre_d, (void)post_p, (void)post_d;",
        "    for (int64_t k = 0; k < n; k++)",
        "        change[k] = 0.0f;",
        "    for (int64_t b = 0; b < B; b++) {",
        *(f"        float *restrict {p}_now = {p} + b * {outs} * TAPS;" for p in held.values()),
    ]
    for _, side in read:
        given = [f"post_{side} + b * N", f"pre_{side} + b * CHANNELS * PIXELS", "m", "wide", "turned", "room", side]
        lines += [
            f"        if (!snn_products({', '.join(given)}))",
            "            for (int64_t k = 0; k < n; k++)",
            f"                {side}[k] = 0.0f;",
        ]
    lines += [
        "#pragma omp simd",
        "        for (int64_t k = 0; k < n; k++) {",
        *inner_call(synapse, values, new, 3),
        *(f"            {held[r]}_now[k] = {new[r]};" for r in synapse.results if r in held),
        f"            change[k] = change[k] + {new['change']};",
        "        }",
        "    }",
        "#pragma omp simd",
        "    for (int64_t k = 0; k < n; k++)",
        f"        weight[k] = {bare_call(update, {'w': 'weight[k]', 'change': 'change[k]', **_fixed(fixed), **last})};",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _declared(fixed: Sequence[str]) -> list[str]:
    return [f"const float *restrict {role}" for role in fixed]


def _fixed(fixed: Sequence[str]) -> dict[str, str]:
    return {role: f"{role}[k]" for role in fixed}

"""Prints the functions that a plastic layer's is made of: the input's side of the rule, and the update of the weights.

Coefficients, traces and signals of the model get names of their own here, numbered: whatever the model calls them,
nothing can clash.
"""

from __future__ import annotations

from collections.abc import Sequence

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.plastic_source import EVERY, LEARN
from snncompile.targets.c.printer import Function, call_lines


def print_inputs(name: str, program: Function, traces: Sequence[str], coefs: Sequence[str]) -> str:
    """The function ``name``: the input's side of one step of one sequence.

    Args:
        name: its name.
        program: the printed program.
        traces: the traces that it updates.
        coefs: the coefficients that it takes, in the order of its arguments.
    """
    held, given = numbered("trace", traces), numbered("coef", coefs)
    head = [
        "const float *restrict z", *(f"float *restrict {p}" for p in held.values()), "float *restrict potentiate",
        "float *restrict depress", "int64_t M", *(f"float {c}" for c in given.values()),
    ]  # fmt: skip
    values = {"z": "z[k]", **{t: f"{p}[k]" for t, p in held.items()}, **given}
    targets = {t: f"{p}[k]" for t, p in held.items()}
    targets.update(zip(FACTORS, ("potentiate[k]", "depress[k]"), strict=True))
    new = numbered("new", program.results)
    lines = [
        "/* The input's side of one step of one sequence. */",
        *call_lines(f"static void {name}", head),
        "{",
        "#pragma omp simd",
        "    for (int64_t k = 0; k < M; k++) {",
        *inner_call(program, values, new, 2),
        *(f"        {targets[r]} = {new[r]};" for r in program.results),
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def print_learning(
    name: str, update: Function, coefs: Sequence[str], bounded: bool, fixed: Sequence[str] = ()
) -> str:
    """The function ``name``: the update of the weights from the sums of both products over the batch.

    Args:
        name: its name.
        update: the printed update.
        coefs: the coefficients that it takes, in the order of its arguments.
        bounded: whether no weight can become infinite.
        fixed: what it takes besides that has a value for each weight: arguments before the coefficients, first by rows,
            then turned.
    """
    given = numbered("coef", coefs)
    values = {"w": "weight[k]", "potentiation": "p", "depression": "d", **{r: f"{r}[k]" for r in fixed}, **given}
    turned = [f"{r}_turned" for r in fixed]
    return LEARN.format(
        name=name,
        update=bare_call(update, values),
        idle=bare_call(update, {**values, "w": "w", "potentiation": "0.0f", "depression": "0.0f"}),
        coefs="".join(f", float {c}" for c in given.values()),
        pass_="".join(f", {c}" for c in given.values()),
        check="" if bounded else "\n    *wild |= snn_wild(weight, n);",
        fixed="".join(f", const float *restrict {r}" for r in fixed),
        same="".join(f", {r}" for r in fixed),
        both="".join(f", const float *restrict {r}" for r in (*fixed, *turned)),
        row="".join(f", {r} + j * S" for r in fixed),
        column="".join(f", {r} + i * wide" for r in turned),
    )


def print_synapses(
    name: str,
    synapse: Function,
    update: Function,
    traces: Sequence[str],
    signals: Sequence[str],
    coefs: tuple[Sequence[str], Sequence[str]],
    fixed: Sequence[str] = (),
) -> str:
    """The function ``name``: every synapse of every sequence, then the update of the weights.

    Args:
        name: its name.
        synapse: the printed program of a synapse.
        update: the printed update.
        traces: the traces that the synapses hold.
        signals: the signals that they hear, in the order of the arguments.
        coefs: the coefficients of either program, in the order of the arguments.
        fixed: what the update takes besides that has a value for each weight.
    """
    held, told = numbered("trace", traces), numbered("signal", signals)
    own, last = numbered("coef", coefs[0]), numbered("last", coefs[1])
    head = [
        "float *restrict weight", "int64_t M", "int64_t S", "int64_t P", "int64_t N", "int64_t W", "int64_t B", "int m",
        *(f"const float *restrict {f}" for f in ("pre_p", "pre_d", "post_p", "post_d")),
        "float *restrict change", "int *wild", *(f"float *restrict {p}" for p in held.values()),
        *(f"const float *restrict {s}" for s in told.values()), *(f"int64_t {s}_b" for s in told.values()),
        *(f"const float *restrict {r}" for r in fixed), *(f"float {c}" for c in (*own.values(), *last.values())),
    ]  # fmt: skip
    values = {
        "w": "row[k]", "potentiation": "from_p[k] * more", "depression": "from_d[k] * less",
        **{t: f"{p}_row[k]" for t, p in held.items()}, **{s: f"{n}[b * {n}_b]" for s, n in told.items()}, **own,
    }  # fmt: skip
    new = numbered("new", synapse.results)
    lines = [
        "/* The update of one step for m of N rows of M weights, S apart: every synapse of every sequence, then the",
        " * weights. The sequences of either side are P and W apart. */",
        *call_lines(f"static void {name}", head),
        "{",
        "    for (int j = 0; j < m; j++) {",
        "        float *restrict row = weight + j * S;",
        "        for (int64_t k = 0; k < M; k++)",
        "            change[k] = 0.0f;",
        "        for (int64_t b = 0; b < B; b++) {",
        "            const float more = post_p[b * W + j], less = post_d[b * W + j];",
        "            const float *restrict from_p = pre_p + b * P, *restrict from_d = pre_d + b * P;",
        *(f"            float *restrict {p}_row = {p} + (b * N + j) * S;" for p in held.values()),
        "            (void)more, (void)less, (void)from_p, (void)from_d;",
        "#pragma omp simd",
        "            for (int64_t k = 0; k < M; k++) {",
        *inner_call(synapse, values, new, 4),
        *(f"                {held[r]}_row[k] = {new[r]};" for r in synapse.results if r in held),
        f"                change[k] = change[k] + {new['change']};",
        "            }",
        "        }",
        "#pragma omp simd",
        "        for (int64_t k = 0; k < M; k++)",
        f"            row[k] = {bare_call(update, {'w': 'row[k]', 'change': 'change[k]', **_rows(fixed), **last})};",
        "        *wild |= snn_wild(row, M);",
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def print_every(name: str, update: Function, coefs: Sequence[str], fixed: Sequence[str]) -> str:
    """The function ``name``: the update of all weights, where one needs to know which of them it has.

    Args:
        name: its name.
        update: the printed update.
        coefs: the coefficients that it takes, in the order of its arguments.
        fixed: what it takes besides that has a value for each weight.
    """
    given = numbered("coef", coefs)
    values = {"w": "row[k]", "potentiation": "p", "depression": "d", **_rows(fixed), **given}
    return EVERY.format(
        name=name,
        update=bare_call(update, values),
        fixed="".join(f", const float *restrict {r}" for r in fixed),
        coefs="".join(f", float {c}" for c in given.values()),
    )


def _rows(fixed: Sequence[str]) -> dict[str, str]:
    return {r: f"{r}[j * S + k]" for r in fixed}


def bare_call(function: Function, values: dict[str, str]) -> str:
    """A call of a function that returns its only result."""
    return f"{function.name}({', '.join(values[a] for a in function.args)})"


def numbered(kind: str, names: Sequence[str]) -> dict[str, str]:
    """Names of the file's own for names of the model."""
    return {name: f"{kind}_{n}" for n, name in enumerate(names)}


def inner_call(function: Function, values: dict[str, str], new: dict[str, str], depth: int) -> list[str]:
    """A call of a function whose results go to new variables."""
    items = [*(values[a] for a in function.args), *(f"&{new[r]}" for r in function.results)]
    declared = f"{'    ' * depth}float {', '.join(new.values())};"
    return [declared, *call_lines(function.name, items, depth, ";")]

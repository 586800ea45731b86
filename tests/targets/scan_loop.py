"""A plain loop over the scan's programs, operation by operation: what the kernels are compared with."""

import torch

from snncompile.ir.ops import OPS
from snncompile.targets.scan import BackwardCall, BackwardResult, ForwardCall, ForwardResult


def evaluate(program, values):
    """The outputs of ``program``, each operation done by torch in float32."""
    values = dict(values)

    def get(arg):
        if isinstance(arg, str):
            return values[arg]
        return torch.tensor(arg, dtype=torch.bool if isinstance(arg, bool) else torch.float32)

    for op in program.ops:
        values[op.name] = OPS[op.op].step(*[get(a) for a in op.args])
    return {name: get(a) for name, a in program.outputs}


def forward(scan, call: ForwardCall) -> ForwardResult:
    """What a forward scan gives."""
    steps, batch, size = call.shape
    shape = (batch, size)
    states = dict(zip(scan.states, call.states, strict=True))
    coefs = dict(zip(scan.coefs, call.coefs, strict=True))
    stored = {r: torch.empty(steps, *shape) for r in call.store}
    sums = {r: torch.zeros(shape) for r in call.sums}
    saved = []
    for t in range(steps):
        if call.checkpoint and t % call.checkpoint == 0:
            saved.append(states)
        step_inputs = {x: course[t] for x, course in zip(scan.inputs, call.inputs, strict=True)}
        results = evaluate(scan.forward, {**states, **step_inputs, **coefs})
        results = {r: v.expand(shape) for r, v in results.items()}
        for r in stored:
            stored[r][t] = results[r]
        for r in sums:
            sums[r] = sums[r] + results[r]
        states = {s: results[s] for s in scan.states}
    rows = tuple(torch.stack([s[n] for s in saved]) if saved else torch.empty(0, *shape) for n in scan.states)
    return ForwardResult(stored, sums, tuple(states.values()), rows if call.checkpoint else ())


def backward(scan, call: BackwardCall) -> BackwardResult:
    """What a backward scan gives; every state is replayed from the first one."""
    steps, batch, size = call.shape
    zero = torch.zeros(batch, size)
    coefs = dict(zip(scan.reverse_coefs, call.coefs, strict=True))
    forward_coefs = dict(zip(scan.coefs, call.forward_coefs, strict=True))
    before = [{s: saved[0] for s, saved in zip(scan.states, call.saved, strict=True)}] if steps else []
    courses = [{x: c[t] for x, c in zip(scan.inputs, call.inputs, strict=True)} for t in range(steps)]
    for t in range(steps - 1):
        results = evaluate(scan.forward, {**before[t], **courses[t], **forward_coefs})
        before.append({s: results[s].expand(batch, size) for s in scan.states})
    carry = {s: zero if g is None else g for s, g in zip(scan.states, call.grad_finals, strict=True)}
    inputs = {x: torch.empty(steps, batch, size) for x in scan.inputs}
    sums = dict.fromkeys(scan.accumulators, zero)
    for t in reversed(range(steps)):
        grads = {}
        for r in scan.results:
            grad = carry.get(r, zero)
            grads[f"grad_{r}"] = grad + call.grads[r][t] if r in call.grads else grad
        made = evaluate(scan.reverse, {**before[t], **courses[t], **coefs, **grads})
        carry = {s: made[f"grad_{s}"].expand(batch, size) for s in scan.states}
        for x in scan.inputs:
            inputs[x][t] = made[f"grad_{x}"]
        sums = {a: total + made[a] for a, total in sums.items()}
    wanted = tuple(inputs[x] if need else None for x, need in zip(scan.inputs, call.need_inputs, strict=True))
    return BackwardResult(wanted, tuple(carry.values()), sums if call.need_accumulators else {})


def same_bits(got, expected):
    """Whether two float tensors are equal bit for bit (any NaN equals any NaN)."""
    got, expected = got.contiguous(), expected.contiguous()
    if got.shape != expected.shape:
        return False
    both_nan = got.isnan() & expected.isnan()
    return bool((both_nan | (got.view(torch.int32) == expected.view(torch.int32))).all())


def same_value(got, expected):
    """Whether two float tensors are equal, zeros of either sign alike."""
    return got.shape == expected.shape and bool(torch.equal(got, expected))

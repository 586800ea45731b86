"""Memory as programs of a launch see it in the worst case, in Triton's interpreter: turns in any order, and caches.

A program sees what it stored itself at once; what others stored, from their next release on, and only after an acquire
of its own: until then it keeps the value that it loaded before.
"""

from contextlib import contextmanager
from random import Random

import numpy as np
from triton._C.libtriton import ir

RELEASES = (ir.MEM_SEMANTIC.RELEASE, ir.MEM_SEMANTIC.ACQUIRE_RELEASE)
_ACQUIRES = (ir.MEM_SEMANTIC.ACQUIRE, ir.MEM_SEMANTIC.ACQUIRE_RELEASE)


@contextmanager
def replacing(builder, *functions):
    """The interpreter with ``functions`` in the place of its own of the same names."""
    for fn in functions:
        setattr(builder, fn.__name__, fn)
    try:
        yield
    finally:
        for fn in functions:
            delattr(builder, fn.__name__)


def own_caches(seed):
    """What to put in the place of ``turns._switching``."""
    random = Random(seed)

    @contextmanager
    def switching(builder, running):
        load, store, atomic = builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw
        seen, pending = {}, {}  # program -> address -> value; program -> its stores
        running.following = lambda now, waiting: random.choice(waiting)

        def create_masked_store(ptrs, value, mask, *more):
            mine = seen.setdefault(running.current, {})
            there = np.broadcast_to(mask.data, ptrs.data.shape)
            values = np.broadcast_to(value.data, ptrs.data.shape)
            mine.update(zip(ptrs.data[there].tolist(), values[there], strict=True))
            pending.setdefault(running.current, []).append((ptrs, value, mask, *more))

        def create_masked_load(ptrs, mask, *more):
            if random.random() < 0.1:
                running.switch()
            found = load(ptrs, mask, *more)
            mine = seen.setdefault(running.current, {})
            there = np.broadcast_to(mask.data, ptrs.data.shape)
            data = found.data.copy()
            at = np.flatnonzero(there)
            places = ptrs.data.reshape(-1)[at].tolist()
            flat = data.reshape(-1)
            for i, place in zip(at, places, strict=True):
                if place in mine:
                    flat[i] = mine[place]
                else:
                    mine[place] = flat[i]
            found.data = data
            return found

        def create_atomic_rmw(op, ptr, value, mask, sem, scope):
            if sem in RELEASES:
                for arguments in pending.pop(running.current, ()):
                    store(*arguments)
            found = atomic(op, ptr, value, mask, sem, scope)
            if sem in _ACQUIRES and running.current not in pending:
                seen.pop(running.current, None)
            running.switch(progress=bool(value.data.any()))
            return found

        try:
            with replacing(builder, create_masked_store, create_masked_load, create_atomic_rmw):
                yield
        finally:
            for late in pending.values():
                for arguments in late:
                    store(*arguments)

    return switching

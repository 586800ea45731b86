"""How programs of a launch wait for each other, all of which must run at the same time.

The arrival is a release and the end of the wait an acquire of a counter, at the device's scope, by one thread, with a
barrier of the program before and after: what any thread stored before the arrival, every thread of the others reads
after the wait.
"""

from __future__ import annotations

#: Distance of two counters: no two lie in the same line of the cache.
APART = 32

MEET = '''@triton.jit
def snn_arrive(arrived):
    """Say that what all threads of this program stored can be read."""
    tl.debug_barrier()
    tl.atomic_add(arrived, 1, sem="release", scope="gpu")


@triton.jit
def snn_await(arrived, target):
    """Wait until programs have arrived `target` times: what they stored before can be read then."""
    count = tl.atomic_add(arrived, 0, sem="acquire", scope="gpu")
    while count < target:
        count = tl.atomic_add(arrived, 0, sem="acquire", scope="gpu")
    tl.debug_barrier()
'''

MEET_ALL = '''@triton.jit
def snn_meet(arrived, target):
    """Wait until all programs have come here: what any of them stored before, all of them read then."""
    snn_arrive(arrived)
    snn_await(arrived, target)
'''

"""Memory of large results: reused when nobody uses it, never before, and bounded."""

import copy
import gc
import os
import pickle
import threading

import torch

from snncompile.targets.c import memory
from snncompile.targets.c.memory import Memory

COUNT = 2**18  # one MiB


def test_it_comes_back_when_nothing_uses_it():
    kept = Memory()
    first = kept.empty((4, COUNT // 4))
    at = first.data_ptr()
    assert first.shape == (4, COUNT // 4) and first.dtype is torch.float32
    part = first[1].view(-1)
    part.fill_(3.0)
    del first
    other = kept.empty((COUNT,))
    assert kept.kept == 0 and other.data_ptr() != at
    other.fill_(4.0)
    assert float(part.sum()) == 3.0 * COUNT / 4
    del part
    assert kept.kept == 4 * COUNT
    assert kept.empty((COUNT + 1,)).data_ptr() != at  # another size
    assert kept.empty((2, COUNT // 2)).data_ptr() == at


def test_it_is_let_go_when_told():
    kept = Memory()
    used, free = kept.empty((COUNT,)).fill_(1.0), kept.empty((COUNT,))
    del free
    kept.release()
    assert kept.kept == 0 and float(used.sum()) == COUNT
    del used
    assert kept.kept == 4 * COUNT  # what was in use still comes back


def test_small_and_very_large_results_are_not_kept():
    kept = Memory()
    for count in (0, 1, COUNT - 1, 2**24 + 1):
        made = kept.empty((count,))
        assert made.numel() == count
        del made
    assert kept.kept == 0


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "MOST_KEPT", 3 * 4 * COUNT)
    kept = Memory()
    many = [kept.empty((COUNT + i,)) for i in range(6)]
    last = many[-1].data_ptr()
    while many:
        many.pop(0)
    assert kept.kept <= 3 * 4 * COUNT
    assert kept.empty((COUNT + 5,)).data_ptr() == last  # the oldest went


def test_autograd_keeps_what_it_needs():
    kept = Memory()

    class Make(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            made = kept.empty((COUNT,)).copy_(x.expand(COUNT))
            ctx.save_for_backward(made)
            return made * 1.0

        @staticmethod
        def backward(ctx, grad):
            return (grad * ctx.saved_tensors[0]).sum().reshape(1)

    leaf = torch.full((1,), 2.0, requires_grad=True)
    out = Make.apply(leaf)
    kept.empty((COUNT,)).fill_(7.0)
    for _ in range(2):
        out.sum().backward(retain_graph=True)
    assert float(leaf.grad) == 4.0 * COUNT
    del out
    gc.collect()
    assert kept.kept == 2 * 4 * COUNT


def test_copies_and_pickles_are_ordinary_tensors():
    kept = Memory()
    made = kept.empty((COUNT,)).fill_(1.5)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), made.clone()):
        assert torch.equal(other, made) and other.data_ptr() != made.data_ptr()


def test_many_threads():
    kept = Memory()
    wrong = []

    def work(value):
        for _ in range(40):
            made = kept.empty((COUNT,)).fill_(value)
            if float(made[0]) != value or float(made[-1]) != value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and kept.kept <= 2 * 4 * 4 * COUNT  # a thread lets go of one when it has the next


def test_a_forked_process_does_not_wait_for_a_lock_of_its_parent():
    with memory.MEMORY._lock:
        child = os.fork()
        if not child:  # another thread held the lock: nobody here will let it go
            os._exit(0 if memory.MEMORY._lock.acquire(timeout=5) else 1)
    assert os.waitpid(child, 0)[1] == 0

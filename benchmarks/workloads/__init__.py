"""Workloads W1 to W7 against other libraries, loops by hand, ``torch.compile`` and the products alone.

python -m benchmarks.workloads --help
"""

"""Measuring networks: time, memory, and what the machine allows."""

"""Systolic fault emulator: quantised networks, replayed on an emulated MAC array, under faults."""

__version__ = "0.1.0"

"""Damaged files for ``benchmarks/fuzz.py``: whole ones, and what changes them."""

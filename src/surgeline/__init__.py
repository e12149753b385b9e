"""Surgeline: what a web backend can take, where it fails, and whether it got better."""

__version__ = "0.1.0"

"""Rankline: from the interactions in a warehouse to a table of recommendations."""

__version__ = "0.1.0"

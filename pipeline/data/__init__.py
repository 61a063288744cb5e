"""Interactions, ids, matrices, splits, readers of every source, data quality."""

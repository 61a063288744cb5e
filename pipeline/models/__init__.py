"""Estimators behind one protocol."""

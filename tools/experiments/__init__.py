"""Comparisons of trainings: ``python -m tools.experiments.NAME``."""

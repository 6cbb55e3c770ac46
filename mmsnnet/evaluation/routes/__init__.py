"""Evaluating many routes in one pass over the data: what they share, what metrics collect, and their results."""

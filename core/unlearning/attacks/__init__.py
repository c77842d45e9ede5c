"""Attempts to bring back what was forgotten, each on the weights as saved, which are put back bit for bit after it."""

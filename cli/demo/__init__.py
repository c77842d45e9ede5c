"""``unlearn demo``: the whole service on this machine, on a model it trains for the purpose."""

"""How good a model is: metrics on held-out interactions, baselines, comparison, the promotion gate."""

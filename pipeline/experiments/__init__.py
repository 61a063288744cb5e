"""A/B tests of two versions: who gets which, what was seen of them, and what follows from it. Numpy and scipy alone."""

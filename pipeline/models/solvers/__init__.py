"""The alternation of half-steps and its stopping rule, on arrays."""

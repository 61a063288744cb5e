"""The second stage of a two-stage list: trees that order what a model proposes. Only `learn` imports LightGBM."""

"""The steps of each command, one module per command, built from the packages below."""

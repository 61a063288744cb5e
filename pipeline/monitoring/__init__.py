"""What is watched once a model is in use: drift, and who is told of it; and which versions stay."""

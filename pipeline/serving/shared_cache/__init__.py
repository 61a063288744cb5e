"""The second cache tier: Redis, shared by the workers of all hosts. The service does without it wherever it fails."""

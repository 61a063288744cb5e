"""The k best unseen items of a user, and why."""

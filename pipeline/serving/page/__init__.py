"""The page of the service, for people: lists and reasons, rating, models, training, health."""

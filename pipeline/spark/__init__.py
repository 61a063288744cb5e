"""Training and scoring on Spark: the only package that imports pyspark, and not before a session is opened."""

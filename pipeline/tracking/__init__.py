"""MLflow: runs, model versions and the champion; also the runs that MLflow has not accepted yet."""

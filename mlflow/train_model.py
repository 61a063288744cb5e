"""`mlflow run .`: train on the warehouse, or (entry point `files`) on a file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])

"""`mlflow run . -e score`: rank for every user and publish the table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.cli.main import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])

"""`mlflow run . -e promote`: make a version the champion if it passes the gate."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.cli.main import main

if __name__ == "__main__":
    main(["promote", *sys.argv[1:]])

"""`mlflow run . -e tune`: search for the options that rank best, then train with them (`tune_files`: on a file)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.cli.main import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])

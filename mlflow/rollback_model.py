"""`mlflow run . -e rollback`: make the previous champion the champion again."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.cli.main import main

if __name__ == "__main__":
    main(["rollback", *sys.argv[1:]])

"""``python -m pipeline`` is ``rankline``."""

from pipeline.cli import main

main()

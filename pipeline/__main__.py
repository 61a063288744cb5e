"""``python -m pipeline`` is ``rankline``."""

from pipeline.cli.main import main

main()

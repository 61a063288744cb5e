"""What the tests of saved factors share."""

from __future__ import annotations

from pipeline.models.factor_model import FILES

W, H, SEEN, METADATA = FILES

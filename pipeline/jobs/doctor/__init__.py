"""The checks of `rankline doctor`, one module per group. Each check reports ok, warn or fail, and how to fix it.

No check changes anything or takes longer than `LIMIT`. A check depends on another one only where it must.
"""

from pipeline.jobs.doctor.runner import LIMIT, examine
from pipeline.runtime.diagnostics import Check, Finding, Group, Status

__all__ = ["LIMIT", "Check", "Finding", "Group", "Status", "examine"]

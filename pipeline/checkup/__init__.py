"""What `rankline doctor` looks at, a file a group: each check says ok, warn or fail, and what to do.

No check changes anything, needs another's success where it can do without, or takes longer than `LIMIT`.
"""

from pipeline.checkup.finding import Finding, Status
from pipeline.checkup.timed import LIMIT, Check, Group, examine

__all__ = ["LIMIT", "Check", "Finding", "Group", "Status", "examine"]

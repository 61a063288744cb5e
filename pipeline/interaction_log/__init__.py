"""The interaction log: what users did since, durable in one SQLite file, until it is shipped to the warehouse."""

from pipeline.errors import ForgottenUserError, IdempotencyConflictError, InteractionLogError, InvalidInteractionError
from pipeline.interaction_log.columns import Columns
from pipeline.interaction_log.events import Accepted, Batch, Interaction, Logged
from pipeline.interaction_log.log import Forgotten, InteractionLog
from pipeline.interaction_log.preferences import Preference
from pipeline.interaction_log.pulled import Newest, PulledRow
from pipeline.interaction_log.shipments import Shipment
from pipeline.interaction_log.tombstones import Tombstones

__all__ = [
    "Accepted",
    "Batch",
    "Columns",
    "Forgotten",
    "ForgottenUserError",
    "IdempotencyConflictError",
    "Interaction",
    "InteractionLog",
    "InteractionLogError",
    "InvalidInteractionError",
    "Logged",
    "Newest",
    "Preference",
    "PulledRow",
    "Shipment",
    "Tombstones",
]

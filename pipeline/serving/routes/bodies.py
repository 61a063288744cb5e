"""Bodies of POST requests, as pydantic checks them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

__all__ = ["BatchRequest", "Id", "NewInteraction", "NewInteractions", "PredictRequest", "Preferences", "Session"]

# `int | str` would take true as 1.
Id = (
    Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]
    | Annotated[StrictStr, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
)
_Rating = Annotated[StrictFloat | StrictInt, Field(ge=0, le=1e6)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Session(_Body):
    """What somebody did with an item."""

    item_id: Id
    rating: _Rating | None = None


class NewInteraction(Session):
    """What a user did with an item; without a rating: watched. `timestamp`: ISO 8601, or seconds since 1970.

    `request_id`: the X-Request-ID of the answer in which the user found the item.
    """

    user_id: Id
    timestamp: datetime | None = None
    request_id: Annotated[StrictStr, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None

    @property
    def at(self) -> datetime | None:
        """The time in UTC; one without a zone is UTC."""
        if self.timestamp is None:
            return None
        return self.timestamp.replace(tzinfo=UTC) if self.timestamp.tzinfo is None else self.timestamp.astimezone(UTC)


NewInteractions = NewInteraction | Annotated[list[NewInteraction], Field(min_length=1, max_length=1000)]


class BatchRequest(_Body):
    """Lists of several users, or the list of a session; one of the two."""

    user_ids: Annotated[list[Id], Field(min_length=1, max_length=1000)] | None = None
    interactions: Annotated[list[Session], Field(min_length=1, max_length=1000)] | None = None
    k: Annotated[StrictInt, Field(ge=1, le=100)] = 10
    genre: Annotated[StrictStr, Field(min_length=1, max_length=256)] | None = None
    exclude_seen: StrictBool = True
    allow: Annotated[list[Id], Field(max_length=5000)] | None = None
    deny: Annotated[list[Id], Field(max_length=5000)] | None = None
    max_per_genre: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    max_per_series: Annotated[StrictInt, Field(ge=1, le=100)] | None = None

    @model_validator(mode="after")
    def _one(self) -> BatchRequest:
        if (self.user_ids is None) == (self.interactions is None):
            raise ValueError("give user_ids, or the interactions of a session")
        return self


class Preferences(_Body):
    """Genres that a user likes, instead of those of before; none: forget them."""

    genres: Annotated[list[Annotated[StrictStr, Field(min_length=1, max_length=256)]], Field(max_length=50)]


class PredictRequest(_Body):
    """Scores of items for a user: `item_ids`, or one as `item_id` (`movie_id` is another name of it)."""

    user_id: Id
    item_ids: Annotated[list[Id], Field(min_length=1, max_length=1000)] | None = None
    item_id: Id | None = None
    movie_id: Id | None = None

    @model_validator(mode="after")
    def _one(self) -> PredictRequest:
        if sum(value is not None for value in (self.item_ids, self.item_id, self.movie_id)) != 1:
            raise ValueError("give one of item_ids, item_id and movie_id")
        return self

    @property
    def items(self) -> list[int | str]:
        """The items, whatever they were given as."""
        if self.item_ids is not None:
            return list(self.item_ids)
        return [value for value in (self.item_id, self.movie_id) if value is not None]

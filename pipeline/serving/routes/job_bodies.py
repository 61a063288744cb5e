"""Bodies of requests for jobs, as pydantic checks them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

__all__ = ["ActivateRequest", "RollbackRequest", "TrainRequest"]

_Reason = Annotated[StrictStr, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]
_Value = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=1000)] | None
_Values = Annotated[dict[Annotated[str, Field(max_length=80)], _Value], Field(max_length=50)]
_Split = Annotated[StrictStr, Field(max_length=80)] | _Values


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrainRequest(_Body):
    """What to train. Each has another name; what is not given is as the service is configured."""

    algorithm: Annotated[StrictStr, Field(min_length=1, max_length=80)] | None = None
    model_type: Annotated[StrictStr, Field(min_length=1, max_length=80)] | None = None
    hyperparameters: _Values | None = None
    split: _Split | None = None
    data_split: _Split | None = None

    @model_validator(mode="after")
    def _one_name(self) -> TrainRequest:
        if self.algorithm is not None and self.model_type is not None:
            raise ValueError("algorithm and model_type are names of the same: give one")
        if self.split is not None and self.data_split is not None:
            raise ValueError("split and data_split are names of the same: give one")
        return self

    @property
    def asked(self) -> tuple[str | None, dict[str, Any], dict[str, Any] | str | None]:
        """Algorithm, hyperparameters, split."""
        split = self.data_split if self.split is None else self.split
        return self.algorithm or self.model_type, dict(self.hyperparameters or {}), split


class ActivateRequest(_Body):
    """How to activate a version; `force` overrules the gate, for a `reason` that is recorded."""

    force: StrictBool = False
    reason: _Reason | None = None

    @model_validator(mode="after")
    def _reason_of_force(self) -> ActivateRequest:
        if self.force and self.reason is None:
            raise ValueError("force needs a reason: it is recorded with the version")
        return self


class RollbackRequest(_Body):
    """Why to go back; recorded with the version."""

    reason: _Reason | None = None

"""`Settings` and `Constants`: what the classes of the reference take where nothing is given.

The reference also lists `API_HOST`, `API_PORT`, `API_WORKERS` and `DEBUG`: they are settings of the service, which
decides about them (docs/api-map.md).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Constants", "Settings"]


class Settings(BaseSettings):
    """Read from the environment, under these names, when it is made."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    REDIS_URL: str | None = None
    REDIS_PASSWORD: SecretStr | None = None
    REDIS_DB: Annotated[int, Field(ge=0)] = 0
    NMF_N_COMPONENTS: Annotated[int, Field(ge=1)] = 100
    NMF_RANDOM_STATE: Annotated[int, Field(ge=0)] = 42


class Constants:
    """Values that the environment does not change.

    Attributes
    ----------
    MIN_PLAYS_THRESHOLD, MAX_PLAYS_THRESHOLD : interactions that a user has at least and at most;
        `--min-interactions` and `--max-interactions` of a training, which leave nobody out unless they are given
    NMF_MAX_ITER, NMF_TOL : as `pipeline.models.nmf.NMF` has them
    USER_EMBEDDINGS_KEY, ITEM_EMBEDDINGS_KEY, RECOMMENDATIONS_KEY : of a cache, to be formatted
    """

    MIN_PLAYS_THRESHOLD = 5
    MAX_PLAYS_THRESHOLD = 10_000
    NMF_MAX_ITER = 200
    NMF_TOL = 1e-4
    USER_EMBEDDINGS_KEY = "embeddings:user:{model}"
    ITEM_EMBEDDINGS_KEY = "embeddings:item:{model}"
    RECOMMENDATIONS_KEY = "recommendations:user:{user_id}"
    SUPPORTED_DATA_FORMATS: ClassVar[tuple[str, ...]] = ("csv", "parquet", "json")

"""`MatrixFactorizationModel` of the design: `svd`, biased matrix factorisation by gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compat.rated_model import LEAST_RATINGS, RatedModel, ratings_of
from pipeline.errors import UnknownItemError
from pipeline.models.factor_model import FactorModel
from pipeline.models.saved_model import SavedModel
from pipeline.options import TrainOptions

__all__ = ["MatrixFactorizationModel"]


class MatrixFactorizationModel(RatedModel):
    """Predicts ratings.

    Parameters
    ----------
    n_factors : numbers in an embedding
    learning_rate : of gradient descent

    Attributes
    ----------
    regularization : None: the default of `svd`; may be set before a fit
    """

    model_type: ClassVar[str] = "matrix_factorization"

    def __init__(self, n_factors: int = 50, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.n_factors, self.learning_rate = n_factors, learning_rate
        self.regularization: float | None = None
        self.random_state = 42

    def options(self, epochs: int = 20, min_data: int = LEAST_RATINGS) -> TrainOptions:
        """Those of the training. Raises UsageError for values out of range."""
        return TrainOptions(
            algorithm="svd",
            solver="sgd",
            n_components=self.n_factors,
            learning_rate=self.learning_rate,
            regularization=self.regularization,
            max_iter=epochs,
            tol=0.0,
            random_state=self.random_state,
            holdout=0.0,
            min_data=min_data,
        )

    def fit(self, ratings_df: pd.DataFrame, epochs: int = 20) -> dict[str, Any]:
        """Train on the ratings; returns `epochs`, `loss` of each, and `initial_rmse` and `final_rmse` over the ratings.

        The initial RMSE is that of predicting the mean.

        Raises
        ------
        TooLittleDataError
            For fewer than 100 ratings.
        UsageError
            For parameters out of range; DivergedError where the learning rate is too large.
        MissingColumnsError, BadRowsError, InputError
            For other columns, ratings outside 0.5 to 5.0, and ratings that are all the same.
        """
        return self.fit_with(ratings_df, self.options(epochs))

    def fit_with(self, ratings_df: pd.DataFrame, options: TrainOptions) -> dict[str, Any]:
        """As `fit`, with options of `options`."""
        hyperparameters = self._facts_of(options, ("learning_rate", "regularization"))
        hyperparameters |= {"n_factors": self.n_factors, "epochs": options.max_iter}
        fitted = self._train(ratings_of(ratings_df), options, hyperparameters)
        errors = self.facts.pop("training_rmse")
        return {
            "epochs": fitted.n_iter,
            "loss": fitted.losses.tolist(),
            "initial_rmse": errors["before"],
            "final_rmse": errors["after"],
        }

    def _set(self, model: SavedModel) -> None:
        super()._set(model)
        if isinstance(model, FactorModel):
            self.n_factors = model.n_components - 2  # besides the two of the biases

    def get_user_embedding(self, user_id: int) -> NDArray[np.float32]:
        """(n_factors,), of what the user has rated by now. Raises UnknownUserError, NotFittedError."""
        embedding: NDArray[np.float32] = self._user_embedding(user_id)[: self.n_factors]
        return embedding

    def get_movie_embedding(self, movie_id: int) -> NDArray[np.float32]:
        """(n_factors,). Raises UnknownItemError, NotFittedError."""
        col = self.scorer.items.row(movie_id)
        if col < 0:
            raise UnknownItemError(
                f"Unknown item {movie_id!r}: not among the {len(self.scorer.items)} items of the model"
            )
        model: Any = self.scorer.model
        embedding: NDArray[np.float32] = model.item_factors[: self.n_factors, col].copy()
        return embedding

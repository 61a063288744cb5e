"""`NMFModel` of the reference: users and items by row and column of a matrix, scores in log(1 + interaction)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.compat.configuration import Constants, Settings
from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, BadRowsError, InputError, NotFittedError
from pipeline.models.algorithms.nmf import NMFAlgorithm
from pipeline.models.base import Fitted
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import transformed
from pipeline.models.model_files import METADATA
from pipeline.models.validation import check_rows
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer

__all__ = ["Matrix", "NMFModel", "as_cells"]

Matrix: TypeAlias = NDArray[Any] | pd.DataFrame | sparse.csr_matrix


class NMFModel:
    """Non-negative factors of log(1 + matrix).

    Parameters
    ----------
    n_components : factors; None: `Settings.NMF_N_COMPONENTS`
    random_state : seed of the start; None: `Settings.NMF_RANDOM_STATE`
    max_iter, tol : None: those of `Constants`

    Attributes
    ----------
    user_factors, item_factors : (n_users, n_components) and (n_components, n_items) float32; None before a fit
    is_fitted : whether `fit` or `load` has been called
    n_users, n_items : sides of the matrix; 0 before a fit
    """

    def __init__(
        self,
        n_components: int | None = None,
        random_state: int | None = None,
        max_iter: int | None = None,
        tol: float | None = None,
    ) -> None:
        settings = Settings()
        self.n_components = settings.NMF_N_COMPONENTS if n_components is None else n_components
        self.random_state = settings.NMF_RANDOM_STATE if random_state is None else random_state
        self.max_iter = Constants.NMF_MAX_ITER if max_iter is None else max_iter
        self.tol = Constants.NMF_TOL if tol is None else tol
        self.fitted: Fitted | None = None
        self._scorer: Scorer | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether there are factors."""
        return self._scorer is not None

    @property
    def user_factors(self) -> NDArray[np.float32] | None:
        """W."""
        return self.saved.user_factors if self.is_fitted else None

    @property
    def item_factors(self) -> NDArray[np.float32] | None:
        """H."""
        return self.saved.item_factors if self.is_fitted else None

    @property
    def n_users(self) -> int:
        """Rows of the matrix."""
        return len(self.saved.users) if self.is_fitted else 0

    @property
    def n_items(self) -> int:
        """Columns of the matrix."""
        return len(self.saved.items) if self.is_fitted else 0

    @property
    def scorer(self) -> Scorer:
        """Rankline's own, with rows and columns as ids. Raises NotFittedError."""
        if self._scorer is None:
            raise NotFittedError
        return self._scorer

    @property
    def saved(self) -> FactorModel:
        """The model in Rankline's own form. Raises NotFittedError."""
        model = self.scorer.model
        assert isinstance(model, FactorModel)  # noqa: S101  # for mypy: no other is set
        return model

    def fit(self, user_item_matrix: Matrix) -> NMFModel:
        """Learn the factors of a matrix (n_users, n_items) ≥ 0, dense or sparse; returns the model itself.

        A cell of 0 is one without an interaction.

        Raises
        ------
        UsageError
            For parameters out of range.
        BadRowsError, InputError
            For a matrix with values that are missing, infinite or negative, and for one without interactions.
        """
        options = TrainOptions(
            n_components=self.n_components,
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=self.random_state,
            transform="log1p",
            holdout=0.0,
        )
        cells = as_cells(user_item_matrix)
        cells.data = transformed(cells.data, {"parameters": {"transform": "log1p"}})
        users, items = (IdMap(np.arange(n)) for n in cells.shape)
        self.fitted = NMFAlgorithm().fit(UserItems(cells, users, items), options)
        facts = {"max_iter": self.max_iter, "tol": self.tol, "random_state": self.random_state}
        meta = {**self.fitted.model.meta, "model": "nmf", "algorithm": "NMF"}
        meta["parameters"] = {**meta["parameters"], **facts}
        self._scorer = Scorer(replace(self.fitted.model, meta=meta))
        return self

    def predict(self, user_ids: ArrayLike, item_ids: ArrayLike) -> NDArray[np.float32]:
        """The score of each pair (user_ids[i], item_ids[i]), (n,): an estimate of log(1 + interaction).

        Raises NotFittedError, RowRangeError and InputError, all of them a ValueError.
        """
        return self.saved.predict(user_ids, item_ids)

    def get_user_embeddings(self, user_ids: ArrayLike) -> NDArray[np.float32]:
        """(n, n_components). Raises NotFittedError, RowRangeError, InputError."""
        return self.saved.user_embeddings(user_ids)

    def get_item_embeddings(self, item_ids: ArrayLike) -> NDArray[np.float32]:
        """(n, n_components). Raises NotFittedError, RowRangeError, InputError."""
        return self.saved.item_embeddings(item_ids)

    def get_top_recommendations(
        self, user_id: int, top_k: int = 10, exclude_seen: bool = True
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The user's best items and their scores, best first; fewer than `top_k` where fewer are left.

        Raises NotFittedError, RowRangeError, and UsageError for a `top_k` below 1.
        """
        scorer = self.scorer
        row = check_rows(user_id, "User", self.n_users)
        top = scorer.recommend_rows(row[:1], min(top_k, max(1, self.n_items)), exclude_seen=exclude_seen)
        found = top.items[0] >= 0
        return top.items[0][found], top.scores[0][found]

    # ---- disk -------------------------------------------------------------------------------

    def save(self, filepath: str | Path) -> None:
        """Write the model to a folder of this name, in Rankline's own form (docs/artifacts.md); never a pickle.

        `pipeline.Scorer.load(filepath)` reads it, too. Raises NotFittedError, and OSError where the folder can't be
        made: where a file stands in its place, too.
        """
        self.saved.save(filepath)

    def load(self, filepath: str | Path) -> NMFModel:
        """Read what `save` wrote; returns the model itself.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ArtifactError
            For what is damaged, or is a file: pickles are not read.
        """
        path = Path(filepath)
        if not path.exists():
            raise FileNotFoundError(f"Model file not found: {filepath}")
        if not path.is_dir():
            raise ArtifactError(
                f"{filepath} is a file, and a model is a folder with {METADATA}: a pickle could run any code, so it is "
                "not read. Train the model again and save it."
            )
        model = FactorModel.load(path)
        parameters = model.meta.get("parameters")
        known: Mapping[str, Any] = parameters if isinstance(parameters, Mapping) else {}
        self.n_components, self.fitted = model.n_components, None
        self.max_iter = known.get("max_iter", self.max_iter)
        self.tol = known.get("tol", self.tol)
        self.random_state = known.get("random_state", self.random_state)
        self._scorer = Scorer(model)
        return self


def as_cells(matrix: Matrix) -> sparse.csr_matrix:
    """The cells of a matrix that are not 0, csr float32, sorted: a copy. Raises BadRowsError, InputError."""
    if isinstance(matrix, pd.DataFrame):
        is_sparse = all(isinstance(kind, pd.SparseDtype) for kind in matrix.dtypes)
        sparse_form: Any = matrix.sparse if is_sparse and matrix.shape[1] else None
        matrix = matrix.to_numpy() if sparse_form is None else sparse_form.to_coo()
    if not sparse.issparse(matrix):
        matrix = np.asarray(matrix)
        if matrix.ndim != 2:
            raise InputError(f"A user-item matrix has shape (n_users, n_items), got {matrix.shape}")
    try:
        cells = sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    except (TypeError, ValueError):
        raise BadRowsError("The user-item matrix has values that are not numbers") from None
    cells.sum_duplicates()
    bad = int(np.count_nonzero(~(np.isfinite(cells.data) & (cells.data >= 0))))
    if bad:
        raise BadRowsError(f"{bad} value(s) of the user-item matrix are not finite and ≥ 0")
    cells.eliminate_zeros()
    if not cells.nnz:
        raise InputError("The user-item matrix has no interaction")
    return cells

"""`pipeline.data.id_map`: the values of `numpy.unique`, whatever arrays they come from."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.data.id_map import distinct

INTEGERS = arrays.arrays(np.int64, st.integers(0, 20), elements=st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1))
TEXTS = arrays.arrays("<U3", st.integers(0, 20), elements=st.text("ab", max_size=3))


@given(st.lists(INTEGERS, min_size=1, max_size=3) | st.lists(TEXTS, min_size=1, max_size=3))
def test_the_values_are_those_of_numpy(parts):
    before = [part.copy() for part in parts]
    values = distinct(*parts)
    expected = np.unique(np.concatenate(parts))
    assert values.tolist() == expected.tolist()
    assert values.dtype == expected.dtype
    assert all(np.array_equal(part, old) for part, old in zip(parts, before, strict=True))


def test_a_table_is_one_list_of_values():
    assert distinct(np.array([[3, 1], [1, 2]], np.int32)).tolist() == [1, 2, 3]

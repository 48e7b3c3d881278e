"""Rows of `predictions.parquet` as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from elsewhere.benchmark.arrays import gathered


def rows(cases: list[str], **columns: Any) -> pa.Table:
    who = {"case": cases, "patient": [f"p{case}" for case in cases], "site": ["A"] * len(cases)}
    return pa.table({**who, **columns})


def test_each_model_has_its_own_cases() -> None:
    one = rows(["a", "b"], dice=[0.5, None], bin_count=[[1, 2], [3, 4]])
    other = rows(["b", "c"], dice=[0.7, 0.8], bin_count=[[5, 6], None])
    found = gathered([(0, 0, one), (3, 0, other)])
    assert (found.seeds, found.cases.tolist(), found.patients.tolist()) == ((0, 3), ["a", "b", "c"], ["pa", "pb", "pc"])
    np.testing.assert_equal(found.numbers["dice"], [[0.5, np.nan, np.nan], [np.nan, 0.7, 0.8]])
    assert found.histograms["bin_count"].tolist() == [[[1, 2], [3, 4], [0, 0]], [[0, 0], [5, 6], [0, 0]]]
    assert found.seen.tolist() == [[True, True, False], [False, True, True]]


def test_histograms_that_a_run_could_not_make() -> None:
    lists = pa.list_(pa.int64())
    none = rows(["a", "b"], bin_count=pa.array([None, None], lists))
    some = rows(["a", "b"], bin_count=pa.array([[1, 2], [3, 4]], lists))
    found = gathered([(0, 0, none), (1, 0, some)])
    assert found.histograms["bin_count"].tolist() == [[[0, 0], [0, 0]], [[1, 2], [3, 4]]]
    assert "bin_count" not in gathered([(0, 0, none)]).histograms

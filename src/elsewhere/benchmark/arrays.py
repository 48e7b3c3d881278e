"""Rows of `predictions.parquet` as arrays: models by cases, what statistics work on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from elsewhere.benchmark.sheets import PROBABILITY, TARGET, WHO
from elsewhere.evidence.findings_material import Judged

NOT_NUMBERS = (*WHO, TARGET)
"""Columns that are no score of a case."""


def gathered(tables: Sequence[tuple[int, int, pa.Table]]) -> Judged:
    """Rows of `predictions.parquet` as (seed, part, rows of one split) to arrays models x cases.

    What one table has and another lacks (runs of an older version) is NaN, or 0 in histograms.
    """
    seeds = sorted({seed for seed, _, _ in tables})
    first: dict[str, tuple[str, str, int]] = {}
    for _, _, table in tables:
        target = table[TARGET].to_pylist() if TARGET in table.column_names else [0] * table.num_rows
        for case, *who in zip(*(table[c].to_pylist() for c in ("case", "patient", "site")), target, strict=True):
            first.setdefault(str(case), (str(who[0]), str(who[1]), int(who[2])))
    place = {case: number for number, case in enumerate(first)}
    shape = (len(seeds), len(place))
    seen, parts = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.int64)
    numbers: dict[str, NDArray[np.float64]] = {}
    histograms: dict[str, NDArray[np.float64]] = {}
    for seed, part, table in tables:
        model = seeds.index(seed)
        rows = np.array([place[str(case)] for case in table["case"].to_pylist()], dtype=np.int64)
        seen[model, rows], parts[model, rows] = True, part
        for name in table.column_names:
            if name in NOT_NUMBERS or not len(rows):
                continue
            column = table[name].combine_chunks()
            if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                known, found = _lists(column)
                if known.any():  # otherwise nothing tells how long they are
                    full = histograms.setdefault(name, np.zeros((*shape, found.shape[1]), dtype=np.float32))
                    full[model, rows[known]] = found
            elif (values := _numbers(column)) is not None:
                numbers.setdefault(name, np.full(shape, np.nan))[model, rows] = values
    names = tuple(name.removeprefix(PROBABILITY) for name in numbers if name.startswith(PROBABILITY))
    probabilities = [numbers.pop(PROBABILITY + name) for name in names]
    patients, sites, target = zip(*first.values(), strict=True) if first else ((), (), ())
    return Judged(
        np.array(list(first), dtype=object),
        np.array(patients, dtype=object),
        np.array(sites, dtype=object),
        tuple(seeds),
        seen,
        parts,
        numbers,
        histograms,
        names,
        np.stack(probabilities, axis=2) if probabilities else None,
        np.array(target, dtype=np.int64) if probabilities else None,
    )


def _lists(column: pa.Array) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    known = np.asarray(column.is_valid())
    flat = column.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return known, flat.reshape(int(known.sum()), -1) if known.any() else np.zeros((0, 0), np.float32)


def _numbers(column: pa.Array) -> NDArray[np.float64] | None:
    if not any(
        of(column.type) for of in (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    ):
        return None
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)

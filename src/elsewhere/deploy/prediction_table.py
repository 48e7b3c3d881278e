"""`predictions.csv`: a row a case, appended as cases finish, so that a killed command loses none of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from elsewhere.deploy.case_names import plain
from elsewhere.deploy.folder import SUMS, sha256
from elsewhere.errors import RunError, StudyError
from elsewhere.files import write_error, write_text
from elsewhere.study.manifest import read_rows

TABLE, MADE_BY = "predictions.csv", "predict.json"

Row = Mapping[str, str]

_FIRST = ("input", "case", "series")
_LAST = ("confidence", "outlier", "outlier:mahalanobis", "outlier:knn", "outlier:input", "unlike", "error")


def columns(task: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Columns of the table of a model."""
    if task == "classification":
        own = ["predicted", *(f"probability:{name}" for name in classes), "plausible"]
    else:
        own = ["mask", "probabilities"]
        own += [f"{what}:{name}" for what in ("voxels", "volume_ml") for name in classes[1:]]
    return (*_FIRST, *own, *_LAST, "fingerprint")


class Table:
    """The rows of all commands that wrote into one folder; the latest row of a case is the one that counts.

    Args:
        folder: of the predictions.
        columns: of the model.

    Raises:
        RunError: there is a table of other columns, or one that is no table.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self.path = folder / TABLE
        self.columns = tuple(columns)
        self.rows: dict[str, Row] = {}
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        _drop_half_line(self.path)
        try:
            header, rows = read_rows(self.path)
        except StudyError as error:
            if "has a header but no rows" in str(error):
                return
            raise RunError(f"{error}; choose another folder, or remove the file") from error
        if tuple(header) != self.columns:
            raise RunError(f"{self.path}: is the table of something else; choose another folder")
        for _, cells in rows:
            if len(cells) == len(header):  # a killed command may have left half a line
                row = dict(zip(header, cells, strict=True))
                self.rows[row["case"]] = row

    def known(self) -> dict[str, str]:
        """Name of each case, by the first half of its fingerprint."""
        return {row["fingerprint"].partition("-")[0]: case for case, row in self.rows.items()}

    def add(self, row: Row) -> None:
        """Append a row; columns that it lacks are empty.

        Raises:
            RunError: the disk is full.
        """
        row = {name: plain(row.get(name, "")) for name in self.columns}
        self.rows[row["case"]] = row
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text([row]))
        except OSError as error:
            raise write_error(self.path, error) from error

    def rewrite(self, order: Iterable[str]) -> None:
        """Write one row a case: those of `order` first and in it, then those of earlier commands.

        Raises:
            RunError: the disk is full.
        """
        first = [case for case in order if case in self.rows]
        rest = [case for case in self.rows if case not in set(first)]
        header = self._text([dict(zip(self.columns, self.columns, strict=True))])
        write_text(self.path, header + self._text([self.rows[case] for case in [*first, *rest]]))

    def _text(self, rows: Iterable[Row]) -> str:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([row[name] for name in self.columns] for row in rows)
        return text.getvalue()


def require_same_model(folder: Path, model: Path) -> None:
    """Compare the model with the one that a folder of predictions is of, if it is of any.

    Raises:
        RunError: it is another one.
    """
    path = folder / MADE_BY
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["model_sha256"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: cannot be read; choose another folder for the predictions") from error
    if before != sha256(model / SUMS):
        raise RunError(f"{folder}: holds the predictions of another model; choose another folder")


def write_maker(folder: Path, model: Path, version: str) -> None:
    """Write down which model, and which version of elsewhere, the predictions are of."""
    found = {"model_sha256": sha256(model / SUMS), "elsewhere": version}
    write_text(folder / MADE_BY, json.dumps(found, indent=1) + "\n")


def _drop_half_line(path: Path) -> None:
    """Take away what a command that was killed while it wrote has left after the last whole line."""
    try:
        with path.open("rb+") as file:
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
    except OSError as error:
        raise write_error(path, error) from error

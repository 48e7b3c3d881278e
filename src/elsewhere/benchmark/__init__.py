"""Leave-one-site-out: plan, runs, tables.

What needs torch is imported when it is first asked for: a worker process, and the report, need not wait for all of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from elsewhere.benchmark.spec import RunSpec

if TYPE_CHECKING:
    from elsewhere.benchmark.benchmark import run_benchmark
    from elsewhere.benchmark.executor_local import LocalExecutor
    from elsewhere.benchmark.executor_ray import RayExecutor
    from elsewhere.benchmark.length import Length, read_length
    from elsewhere.benchmark.planning import plan
    from elsewhere.benchmark.run import execute
    from elsewhere.benchmark.summary import Summary, print_summary, summarise
    from elsewhere.benchmark.tables import write_tables

__all__ = [
    "Length",
    "LocalExecutor",
    "RayExecutor",
    "RunSpec",
    "Summary",
    "execute",
    "plan",
    "print_summary",
    "read_length",
    "run_benchmark",
    "summarise",
    "write_tables",
]

_LATER = {
    "Length": "length",
    "LocalExecutor": "executor_local",
    "RayExecutor": "executor_ray",
    "Summary": "summary",
    "execute": "run",
    "plan": "planning",
    "print_summary": "summary",
    "read_length": "length",
    "run_benchmark": "benchmark",
    "summarise": "summary",
    "write_tables": "tables",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"elsewhere.benchmark.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Leave-one-site-out: plan, runs, tables."""

from elsewhere.benchmark.benchmark import run_benchmark
from elsewhere.benchmark.executor_local import LocalExecutor
from elsewhere.benchmark.executor_ray import RayExecutor
from elsewhere.benchmark.plan import plan
from elsewhere.benchmark.run import execute
from elsewhere.benchmark.spec import RunSpec
from elsewhere.benchmark.summary import Summary, print_summary, summarise
from elsewhere.benchmark.tables import write_tables

__all__ = [
    "LocalExecutor",
    "RayExecutor",
    "RunSpec",
    "Summary",
    "execute",
    "plan",
    "print_summary",
    "run_benchmark",
    "summarise",
    "write_tables",
]

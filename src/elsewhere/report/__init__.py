"""The report of a benchmark or an evaluation, and of two of them: one HTML file that opens offline."""

from elsewhere.report.report import write_report
from elsewhere.report.two_folders import write_comparison

__all__ = ["write_comparison", "write_report"]

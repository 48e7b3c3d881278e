"""The report of a benchmark: one HTML file that opens offline."""

from elsewhere.report.report import write_report

__all__ = ["write_report"]

"""report: cards in; the paper's tables, figures and a failure explorer out."""

from cricavpr.evaluation.report.flow import Wanted, write_report
from cricavpr.evaluation.report.runs import Run, Sources, find_sources

__all__ = ["Run", "Sources", "Wanted", "find_sources", "write_report"]

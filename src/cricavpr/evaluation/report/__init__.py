"""Reports of evaluations: the paper's tables, figures and a failure explorer, from cards and answers."""

from cricavpr.evaluation.report.evaluations import Evaluation, Sources, find_sources
from cricavpr.evaluation.report.flow import Wanted, write_report

__all__ = ["Evaluation", "Sources", "Wanted", "find_sources", "write_report"]

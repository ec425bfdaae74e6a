"""Reports of evaluations: the paper's tables, figures and a failure explorer, from cards and answers."""

from cricavpr.evaluation.report.evaluations import Evaluation, find_evaluations
from cricavpr.evaluation.report.flow import ReportOptions, write_report

__all__ = ["Evaluation", "ReportOptions", "find_evaluations", "write_report"]

"""Reports of evaluations: tables and figures like the paper's, and an explorer of wrong queries.

A report is made from the card.json and answers.jsonl of each evaluation.
"""

from cricavpr.evaluation.report.evaluations import Evaluation, find_evaluations
from cricavpr.evaluation.report.flow import ReportOptions, write_report

__all__ = ["Evaluation", "ReportOptions", "find_evaluations", "write_report"]

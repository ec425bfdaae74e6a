"""Demo: locates photos in a synthetic town that a program draws, and writes one page with the results."""

from cricavpr.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]

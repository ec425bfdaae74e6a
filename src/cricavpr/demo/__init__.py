"""The demo: a drawn town, 200 photos to locate, and one page with the results."""

from cricavpr.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]

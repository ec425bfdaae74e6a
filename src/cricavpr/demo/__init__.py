"""The demo: a drawn town, 200 photos to locate, and one page that shows what came of it."""

from cricavpr.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]

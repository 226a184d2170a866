"""``simclr report``: what is in the folders of runs, on one page."""

from simclr_lightning.run_report.report_page import report_runs

__all__ = ["report_runs"]

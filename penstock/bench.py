"""Streams measured: what runs, what it measured, and what is said of it."""

from penstock.engine.bench.bench import Bench
from penstock.engine.bench.calibration import Calibration, calibrate
from penstock.engine.bench.comparison import Comparison, compare, judge
from penstock.engine.bench.console import block
from penstock.engine.bench.console_compare import comparison_block
from penstock.engine.bench.csv_tables import figures_csv, requests_csv
from penstock.engine.bench.document import Document
from penstock.engine.bench.loads import Closed, Open, Ramp, Replay, Until
from penstock.engine.bench.moments import Moments
from penstock.engine.bench.patience import Patience
from penstock.engine.bench.plan import Plan
from penstock.engine.bench.prompt_files import Template, read_prompts
from penstock.engine.bench.prompts import Prompt, PromptList
from penstock.engine.bench.ray_bench import RayBench
from penstock.engine.bench.recording import Recording, Stage, StageRecord
from penstock.engine.bench.report import write_report
from penstock.engine.bench.search import Search
from penstock.engine.bench.slo import Slo, parse_slos
from penstock.engine.bench.synthetic import Length, Synthetic
from penstock.engine.bench.thresholds import parse_threshold

__all__ = [
    "Bench",
    "Calibration",
    "Closed",
    "Comparison",
    "Document",
    "Length",
    "Moments",
    "Open",
    "Patience",
    "Plan",
    "Prompt",
    "PromptList",
    "Ramp",
    "RayBench",
    "Recording",
    "Replay",
    "Search",
    "Slo",
    "Stage",
    "StageRecord",
    "Synthetic",
    "Template",
    "Until",
    "block",
    "calibrate",
    "compare",
    "comparison_block",
    "figures_csv",
    "judge",
    "parse_slos",
    "parse_threshold",
    "read_prompts",
    "requests_csv",
    "write_report",
]

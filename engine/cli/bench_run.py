"""One benchmark: calibrated, run, watched, interrupted, and made a document of."""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..bench.bench import Bench
from ..bench.calibration import Calibration, calibrate
from ..bench.document import Document
from ..bench.load_words import load_words
from ..bench.loads import Load
from ..bench.measured_engine import MeasuredEngine
from ..bench.plan import Plan
from ..bench.prompt_files import PromptFile
from ..bench.ray_bench import RayBench
from ..bench.recording import Recording, Stage
from ..bench.search import Search
from ..bench.slo import Slo, parse_slos
from ..bench.workers import cores
from ..config import ModelConfig
from ..types import Timeouts
from .bench_about import about
from .bench_loads import first_load, load_of_one, make_search, make_stages
from .bench_progress import Snapshot, Watch
from .bench_prompts import make_prompts
from .running import finish
from .view import View


@dataclass(frozen=True, slots=True)
class Task:
    """What there is to do.

    Args:
        plan: What to measure with.
        stages: In order; of a search, the warm-up alone.
        search: What comes after them.
        slos: Objectives.
    """

    plan: Plan
    stages: list[Stage]
    search: Search | None
    slos: tuple[Slo, ...]


def make_task(options: Namespace, file: PromptFile | None) -> Task:
    """What the options ask for.

    Raises:
        ConfigurationError: It cannot work. Nothing has been sent.
    """
    slos = parse_slos(options.slo) if options.slo else ()
    search: Search | None = None
    if options.search:
        search, stages = make_search(options, slos)
    else:
        stages = make_stages(options, file)
    engine: dict[str, Any] = {
        "model_or_config": ModelConfig(options.model, options.gateway, options.api_key_env),
        "base_url": options.url,
        "default_headers": dict(options.header),
        "allow_http": options.allow_http,
        "params": dict(options.param),
    }
    if options.timeout is not None:
        engine["timeouts"] = Timeouts(deadline=options.timeout)
    MeasuredEngine(**engine)  # what cannot work is told now
    return Task(Plan(engine, make_prompts(options, file), options.raw), stages, search, slos)


async def run_bench(options: Namespace, task: Task, view: View[Snapshot]) -> tuple[Document, bool]:
    """Run it, and tell what was measured and whether it was interrupted.

    Raises:
        ModelEngineError: It could not begin.
        OSError: A process could not be started, or has died.
    """
    run = _Run(options, task, view)
    recording = await run.through()
    told = about(options)
    if task.search is not None:
        told["search"] = _found(task.search)
    calibration = None if run.calibration is None else run.calibration.to_json()
    return Document(recording, told, calibration, task.slos), run.was_interrupted


class _Run:
    """A benchmark that runs, what is shown of it, and the signals that end it: before it begins all, then the stage."""

    def __init__(self, options: Namespace, task: Task, view: View[Snapshot]) -> None:
        self.was_interrupted = False
        self.calibration: Calibration | None = None
        self._has_begun = False
        self._options = options
        self._task = task
        self._view = view
        self._bench = _made_bench(options, task.plan)

    async def through(self) -> Recording:
        """To its end, whichever that is."""
        running = asyncio.ensure_future(self._measured())
        showing = asyncio.ensure_future(self._show_now_and_then())
        await finish(running, showing, lambda: self._interrupt(running))
        if running.cancelled():
            raise KeyboardInterrupt
        return running.result()

    async def _measured(self) -> Recording:
        task, options = self._task, self._options
        if options.runner == "local" and not options.no_calibration:
            workers = cores() if options.workers == "auto" else options.workers
            self.calibration = await _calibrated(options, task, self._view, workers, calibrate)
        async with self._bench as bench:
            if isinstance(bench, RayBench) and not options.no_calibration:
                self.calibration = await _calibrated(options, task, self._view, len(bench), bench.calibrate)
            self._has_begun = True
            is_sweep = len([each for each in task.stages if not each.is_warm_up]) > 1
            recording = await bench.run(task.stages, until_saturated=is_sweep and not options.whole_sweep)
            if task.search is not None:
                await bench.search(task.search)
            left = [each for each in task.stages[len(recording.stages) :] if not each.is_warm_up]
        if left and not self.was_interrupted:
            self._view.say(_left_out(recording, left))
        return recording

    def _interrupt(self, running: asyncio.Future[Any]) -> None:
        if self.was_interrupted or not self._has_begun:
            running.cancel()
            return
        self.was_interrupted = True
        self._bench.stop()
        self._view.say("stopped; what was measured is reported. Once more ends at once.")

    async def _show_now_and_then(self) -> None:
        if self._view.interval is None:
            return
        watch = Watch(None if self._task.search is not None else len(self._task.stages))
        while True:
            await asyncio.sleep(self._view.interval)
            if (stage := self._bench.running) is not None:
                number = len(self._bench.recording.stages) + 1
                self._view.show(watch.read(stage, number, self._bench.progress, time.monotonic()))


def _made_bench(options: Namespace, plan: Plan) -> Bench:
    if options.runner == "ray":
        return RayBench(plan, workers=options.workers, address=options.ray_address)
    return Bench(plan, workers=options.workers)


async def _calibrated(
    options: Namespace,
    task: Task,
    view: View[Snapshot],
    workers: int,
    measure: Callable[[Load], Awaitable[Calibration]],
) -> Calibration | None:
    """Measure this client; `None` when that is not possible here."""
    loads: Sequence[Load] = [each.load for each in task.stages if not each.is_warm_up] or [first_load(options)]
    load = load_of_one(loads, workers)
    if not options.quiet:
        view.say(f"measuring this client itself, {load_words(load)} ...")
    try:
        calibration = await measure(load)
    except (OSError, asyncio.TimeoutError) as error:
        view.say(f"this client could not be measured: {error}")
        return None
    if not options.quiet:
        view.say(calibration.text)
    return calibration


def _left_out(recording: Recording, left: Sequence[Stage]) -> str:
    """Why stages were not run."""
    names = ", ".join(load_words(each.load) for each in left)
    if recording.stages and recording.stages[-1].ending == "lost":
        return f"left out, because a process of the run was lost: {names}"
    if recording.stages and recording.stages[-1].ending == "dead":
        return f"left out, because request after request failed: {names}"
    return f"left out, because more load brought no more throughput: {names} (--whole-sweep runs them)"


def _found(search: Search) -> dict[str, Any]:
    """What a search has found, as JSON types."""
    return {
        "best": search.best,
        "missed": search.missed,
        "is_limited_by_client": search.is_limited_by_client,
        "steps": [[step.load, step.good_share, step.has_kept] for step in search.steps],
    }


def search_sentence(options: Namespace, search: Search) -> str:
    """What a search has found, in one sentence."""
    unit = "requests/s" if options.search == "rate" else "at a time"
    if search.best is None:
        return f"The knee: no load was found that keeps {options.slo}"
    beyond = "nothing more was tried" if search.missed is None else f"{search.missed:g} is too much"
    client = "; this client was the limit, and the server may bear more" if search.is_limited_by_client else ""
    return f"The knee: {search.best:g} {unit} keep {options.slo}, {beyond}{client}"

"""predict_linear of the lead-time benchmark against a real Prometheus, on the gauge of the engine."""

import asyncio
import json
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.leadtime.baselines import per_minute, predict_linear, samples
from bench.leadtime.families import incident
from bench.leadtime.stream import levels, steps_of
from tests.integration.conftest import StartWeb
from tests.integration.servers import Web, tool

GAUGE = 'callgauge_limit_used{limit="sip-trunk"}'
BEGAN_S = 1_780_000_005
STEP_S = 15
CAP = 100.0
RULES = ((5, 30), (30, 30), (60, 60))  # window and horizon in minutes


def open_metrics(level: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """Write the gauge as it would have been scraped at each evaluation."""
    lines = ["# TYPE callgauge_limit_used gauge"]
    lines += [f"{GAUGE} {value:.0f} {BEGAN_S + STEP_S * k}" for k, value in enumerate(level)]
    return "\n".join([*lines, "# EOF", ""])


def backfill(folder: Path, text: str) -> None:
    """Turn samples into blocks of Prometheus's own storage."""
    promtool = tool("promtool", package="prometheus")
    source, blocks = folder / "gauge.txt", folder / "prometheus" / "0" / "data"  # where the server starts
    blocks.parent.mkdir(parents=True)
    source.write_text(text, "utf-8")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", str(source), str(blocks)],
        check=True, capture_output=True,
    )  # fmt: skip


async def answers(server: Web, expression: str, steps: int) -> dict[int, float]:
    """Ask for every evaluation; give the answer by its number."""
    asked = urllib.parse.urlencode(
        {"query": expression, "start": BEGAN_S, "end": BEGAN_S + STEP_S * (steps - 1), "step": STEP_S}
    )
    path = f"/api/v1/query_range?{asked}"
    answer = cast("dict[str, Any]", await asyncio.to_thread(server.get_json, path))
    values = answer["data"]["result"][0]["values"] if answer["data"]["result"] else []
    return {(int(at) - BEGAN_S) // STEP_S: float(value) for at, value in values}


async def test_our_predict_linear_is_that_of_prometheus(prometheus: StartWeb, tmp_path: Path) -> None:
    """A ramp's gauge, every evaluation: the same forecasts, and the rule holds at the same evaluations."""
    ramp = incident("ramp15", CAP, np.random.default_rng(12))
    level = levels([ramp], steps_of(ramp.stop_s))
    steps = level.shape[1]
    backfill(tmp_path, open_metrics(level[0]))
    server = await asyncio.to_thread(
        prometheus, json.dumps({"global": {}}), None, ("--storage.tsdb.retention.time=100y",)
    )
    for window, ahead in RULES:
        forecast = f"predict_linear({GAUGE}[{window}m], {60 * ahead})"
        theirs = await answers(server, forecast, steps)
        ours = predict_linear(level, samples(window), per_minute(ahead))[0]
        full = range(per_minute(window), steps)
        assert max(abs(ours[k] - theirs[k]) for k in full) < 1e-6 * CAP
        rule = f"{forecast} >= {CAP:.0f} and {GAUGE} >= {0.5 * CAP:.0f}"
        firing = await answers(server, rule, steps)
        assert {k for k in firing if k in full} == {k for k in full if ours[k] >= CAP <= 2.0 * level[0, k]}

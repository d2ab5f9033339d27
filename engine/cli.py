"""The command line: parse, call, map errors to exit codes. Heavy imports happen inside the commands.

Exit codes: 0 fine whatever fired, 1 failure, 2 usage, 3 expectations breached.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from engine.commands.stdout import drop_what_is_left, open_what_is_closed, stdout_may_fail
from engine.errors import CallgaugeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

app = typer.Typer(
    name="callgauge",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Call-pipeline telemetry: alerts long before a silent cap starts declining calls.",
    pretty_exceptions_enable=False,
)

Config = Annotated[
    str | None, typer.Option("--config", help="Settings (YAML). Default: built-in, see config/engine.yaml.")
]
Limits = Annotated[
    str | None, typer.Option("--limits", help="Limits register. Default: ./limits.yaml, else the sample.")
]
Declines = Annotated[
    str | None,
    typer.Option("--declines", help="Decline rules. Default: ./declines.yaml, else the shipped ones."),
]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]


# \b keeps the lines of a paragraph as they are.
CHECK_HELP = """\
Check what would be told, and when, on made-up traffic.

A scenario is a text: who calls, which caps there are, what goes wrong, and what must follow. The README has
all its words. A small one:

\b
  seed 7
  length 1h
  limits:
    - {name: trunk, kind: concurrency, value: 80, applies_to: {trunk: sip-1}}
  calls web rate=8/min holding=3m trunk=sip-1
  rate web doubling=15m from=10m
  cap panel value=80 trunk=sip-1
  at 0s..10m expect silence
  expect CallLimitApproaching{severity="critical"} 2m before the first decline

Exit code 3: an expectation was not met; what was wanted (-) and what happened (+) is printed.
"""


@app.command()
def run(
    config: Config = None,
    limits: Limits = None,
    declines: Declines = None,
    record: Annotated[
        str | None, typer.Option("--record", help="Also write everything read to this folder.")
    ] = None,
    log_level: LogLevel = None,
) -> None:
    """Watch calls live, from Kafka to Alertmanager."""
    from engine.app import configuration_loader
    from engine.commands.allocator import return_freed_memory
    from engine.commands.logs import set_up_logs
    from engine.commands.preconditions import say_what_is_watched
    from engine.commands.run import Service
    from engine.source.kafka import KafkaSource

    flags = {"log_level": log_level} if log_level else None
    load = configuration_loader(config, limits, declines, flags)
    return_freed_memory()
    configuration = load()
    set_up_logs(configuration.settings)
    say_what_is_watched(configuration)
    source = KafkaSource(configuration.settings.kafka)
    _run(lambda: Service(configuration, source, record, load).serve())


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - each option is a parameter.
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG...",
            help="Logs (.jsonl, .gz, .zst, .parquet), globs, - for stdin, or the folder of a recording.",
        ),
    ],
    config: Config = None,
    limits: Limits = None,
    declines: Declines = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Only events from this time (RFC 3339).")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Only events before this time (RFC 3339).")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", help="table (default on a terminal), json or jsonl (default in a pipe)."),
    ] = None,
    learned: Annotated[
        str | None,
        typer.Option(
            "--learned",
            metavar="FILE",
            help="What `learn` wrote, or the caps that `run` inferred (engine.learned_limits_file).",
        ),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            help="YAML such as `expect: [{firing: CallLimitApproaching, severity: critical, within: 255s}, "
            "{never: CallLimitReached}]`; exit code 3 if it is not met.",
        ),
    ] = None,
) -> None:
    """Show what would have fired on recorded calls.

    The same engine reads them as fast as it goes. Alerts go to stdout, notes and progress to stderr.
    """
    from engine.app import Span, load_configuration, with_learned_file
    from engine.commands.replay import OUTPUTS, ReplayOptions
    from engine.commands.replay import replay as replay_logs

    chosen = output or ("table" if sys.stdout.isatty() else "jsonl")
    if chosen not in OUTPUTS:
        raise UsageError(f"no output named {chosen}", where="--output", hint=f"one of {', '.join(OUTPUTS)}")
    span = _span(from_, to)
    options = ReplayOptions(tuple(logs), chosen, Span(*span), expect)
    configuration = load_configuration(config, limits, declines)
    if learned:
        configuration = with_learned_file(configuration, learned)
    if limits is None:
        sys.stderr.write(f"{configuration.limits_origin()}\n")
    _run(lambda: replay_logs(configuration, options))


@app.command()
def demo() -> None:
    """Show a recorded go-live that fills its cap.

    The limit fills, the page comes, minutes later the first call is declined. No server is needed.
    """
    from engine.commands.demo import demo as play

    _run(play)


@app.command()
def warmup(
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="DIR", help="Bake for an image; then run with NUMBA_CACHE_DIR=DIR."),
    ] = None,
) -> None:
    """Compile every kernel now, so that the first start need not.

    Without --into they are for this user and this processor. Baked ones are for every processor of a level
    (x86-64-v3, or any aarch64), may lie on a read-only file system, and belong to whoever baked them.
    """
    if into is not None:
        os.environ["NUMBA_CACHE_DIR"] = into
        from engine.baked_kernels import compile_for, make_ready, this_target

        make_ready(into)
        compile_for(this_target("").cpu)
    from engine.app import load_configuration
    from engine.commands.bake import bake

    bake(load_configuration(None, None, None), into)


@app.command(help=CHECK_HELP)
def check(
    scenarios: Annotated[
        list[str], typer.Argument(metavar="SCENARIO...", help="Scenario files, such as tests/scenarios/*.")
    ],
    config: Config = None,
    declines: Declines = None,
    *,
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Also print every alert that fired, and when.")
    ] = False,
) -> None:
    """Check what would be told, and when, on made-up traffic."""
    from engine.commands.check_scenario import CheckOptions, check_scenarios

    options = CheckOptions(tuple(scenarios), config, declines, shows_alerts=alerts)
    _run(lambda: check_scenarios(options))


@app.command()
def learn(
    logs: Annotated[
        list[str],
        typer.Argument(metavar="LOG...", help="Logs, as for replay: weeks of them."),
    ],
    out: Annotated[str, typer.Option("--out", help="The file to write.")],
    config: Config = None,
    limits: Limits = None,
    declines: Declines = None,
) -> None:
    """Learn what is usual, and thresholds for the budget of pages, from recorded calls.

    Four to six weeks are best; two are the least for thresholds. Name the file as headroom.learned_file.
    """
    from engine.app import load_configuration
    from engine.commands.learn import LearnOptions
    from engine.commands.learn import learn as learn_from

    configuration = load_configuration(config, limits, declines)
    if limits is None:
        sys.stderr.write(f"{configuration.limits_origin()}\n")
    _run(lambda: learn_from(configuration, LearnOptions(tuple(logs), out)))


@app.command(name="check-config")
def check_config(
    config: Config = None,
    limits: Limits = None,
    declines: Declines = None,
    *,
    launch: Annotated[
        bool, typer.Option("--launch", help="Also fail on limits without headroom, owner or confirmation.")
    ] = False,
) -> None:
    """Check settings, limits and decline rules.

    Every mistake is named with its file and line. Exit code 2: a file cannot be used, 1: --launch found
    something.
    """
    from engine.commands.check import run_check

    text, code = run_check(config, limits, declines, is_launch=launch)
    with _reader_may_leave(), stdout_may_fail():
        sys.stdout.write(text)
    sys.exit(code)


def _span(from_: str | None, to: str | None) -> tuple[int | None, int | None]:
    """Read --from and --to, and refuse a span that nothing can lie in."""
    from_ns, to_ns = _time(from_, "--from"), _time(to, "--to")
    if from_ns is not None and to_ns is not None and from_ns >= to_ns:
        raise UsageError(f"{to} is not after {from_}", where="--to", hint="name a time after that of --from")
    return from_ns, to_ns


def _time(text: str | None, flag: str) -> int | None:
    from engine.durations import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise UsageError(
            f"not a time: {text}", where=flag, cause=str(error), hint="write it as 2026-11-22T15:38:37Z"
        ) from None


def _run(work: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine on uvloop; it is made there, so that what it opens belongs to that loop."""
    import uvloop

    async def main() -> None:
        await work()

    with _reader_may_leave():
        uvloop.run(main())


def main() -> None:
    """Parse the command line; every error that a user can mend is a message, not a traceback."""
    open_what_is_closed()
    code = _code_of(app)
    sys.exit(_code_of(_flush) or code)  # type: ignore[arg-type]


def _code_of(work: Callable[[], object]) -> object:
    """Do it, say what went wrong, and give the exit code."""
    try:
        work()
    except SystemExit as end:
        return end.code
    except CallgaugeError as error:
        sys.stderr.write(f"callgauge: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _flush() -> None:
    with _reader_may_leave(), stdout_may_fail():
        sys.stdout.flush()


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Take it as the end when the reader of stdout goes away, as `head` does."""
    try:
        yield
    except BrokenPipeError:
        drop_what_is_left()


if __name__ == "__main__":
    main()

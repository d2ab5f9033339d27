"""Which module may import which: a module imports only what stands before it on the line."""

from collections.abc import Iterator

from tests.tidy_source import CORE, Problem, Source, is_core, is_in

# Shared types, then the steps in their order, then what holds them together; what reads configuration stands
# after the step whose labels it checks. A new module needs a place here.
LINE = (
    "engine.errors", "engine.addresses", "engine.config_files", "engine.kernel_cache", "engine.baked_kernels",
    "engine.kernel", "engine.memory",
    "engine.erlang", "engine.durations", "engine.strict_yaml", "engine.fields", "engine.limits",
    "engine.settings", "engine.learned", "engine.zones", "engine.secret_file",
    "engine.source", "engine.decode", "engine.register", "engine.settings_check", "engine.settings_file",
    "engine.observe", "engine.judge", "engine.pipeline", "engine.publish", "engine.deliver", "engine.state",
    "engine.web", "engine.scenario", "engine.app", "engine.own_files", "engine.named_files",
    "engine.check_config", "engine.commands", "engine.cli",
)  # fmt: skip

CORE_MAY_IMPORT = (*CORE, "engine.kernel", "engine.memory", "engine.source.contract", "engine.source.columns")

# Beside the contract: what summaries hold, with the names of events and the layout of the latency sketch.
DETECTORS_MAY_IMPORT = (
    "engine.judge.detection", "engine.judge.windows", "engine.judge.occupancy", "engine.judge.facts",
    "engine.observe.summary", "engine.observe.latency", "engine.decode.events",
    "engine.judge.baseline", "engine.learned",
    "engine.limits", "engine.settings", "engine.errors", "engine.kernel", "detectors", "numpy", "numba",
    "__future__", "collections", "dataclasses", "enum", "functools", "itertools", "math", "msgspec", "typing",
)  # fmt: skip


def check_line(source: Source) -> Iterator[Problem]:
    """Rule 4: imports follow the flow, and the core does not reach into the shell."""
    if not source.path.startswith("engine/") or source.path == "engine/__init__.py":
        return
    place = _place(source.module)
    if place is None:
        yield 1, f"{source.module} has no place on the line: give it one in tests/tidy_imports.py"
        return
    for line, name in source.imports():
        target = _place(name)
        if is_in(name, ("detectors",)) and source.path != "engine/app.py":
            yield line, "only engine/app.py imports detectors"
        elif target is not None and target > place:
            yield line, f"{LINE[place]} imports {name}, which comes later on the line"
        elif target is not None and is_core(source.module) and not is_in(name, CORE_MAY_IMPORT):
            yield line, f"the core imports {name}, which belongs to the shell"


def check_detectors(source: Source) -> Iterator[Problem]:
    """Rule 4: a detector is a plug-in; it sees summaries, limits and arithmetic."""
    if not source.path.startswith("detectors/"):
        return
    for line, name in source.imports():
        if not is_in(name, DETECTORS_MAY_IMPORT):
            yield line, f"a detector imports {name}"


def _place(name: str) -> int | None:
    """Find a module's place by its nearest enclosing package; None: it stands outside the line."""
    return next((place for place, module in enumerate(LINE) if is_in(name, (module,))), None)

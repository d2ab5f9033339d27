"""The house rules as checks over source text: each rule is one function from a file to its problems.

`problems_of_file` runs every check on one file, `problems_of_tree` on a whole tree, with the checks that need
more than one file. Nothing is imported or run, so a bad example is a few lines of text (see test_tidy.py).
Which module may import which is checked in tidy_imports.py; tidy_source.py is what the checks see of a file.
Rejected: a linter's plug-in. These rules are about this tree (which folder may read a clock, which step comes
before which), and a test says so where everybody looks.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.tidy_imports import check_detectors, check_line
from tests.tidy_source import (
    ALLOCATING,
    INLINED,
    KERNEL,
    KERNELS,
    Problem,
    Source,
    is_core,
    kernels,
    source_of,
)

PYTHON_LINES_MAX = 400
PATH_LINES_MAX = {"engine/pipeline.py": 150, "engine/ARCHITECTURE.md": 200}
FUNCTION_LINES_MAX = 60
DOCSTRING_LINES_MAX = 15
COLUMNS_MAX = 110
PARAMETERS_MAX = 8

TOP_LEVEL = {
    ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "bench", "config", "detectors",
    "engine", "pyproject.toml", "requirements.lock", "tests",
}  # fmt: skip
MADE_BY_TOOLS = (".", "__pycache__", "build", "dist", "callgauge.egg-info")
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "base", "manager", "misc"}

IO_MODULES = {
    "aiohttp", "aiokafka", "asyncio", "backports", "bz2", "concurrent", "confluent_kafka", "cramjam",
    "fileinput", "glob", "gzip", "http", "io", "jinja2", "logging", "lzma", "mmap", "multiprocessing", "os",
    "pathlib", "prometheus_client", "requests", "rich", "sched", "secrets", "select", "shutil", "signal",
    "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "typer", "urllib",
    "uuid", "uvloop",
}  # fmt: skip
IO_CALLS = {"breakpoint", "input", "open", "print"}
IO_METHODS = {"fromfile", "memmap", "read_bytes", "read_text", "tofile", "write_bytes", "write_text"}
IO_OF_NUMPY = {
    "numpy.genfromtxt",
    "numpy.load",
    "numpy.loadtxt",
    "numpy.save",
    "numpy.savetxt",
    "numpy.savez",
}
CLOCKS = re.compile(r"(?:^|\.)(?:datetime|date|Timestamp)\.(?:now|today|utcnow)$")
# Hashes of text and identities of objects differ from run to run.
HIDDEN_RANDOMNESS = {"hash", "id"}
SEEDED = {"default_rng", "Generator", "PCG64", "SeedSequence"}

BASES = {
    "Enum", "Flag", "Generic", "IntEnum", "IntFlag", "NamedTuple", "Protocol", "StrEnum", "Struct",
    "TypedDict",
}  # fmt: skip
# A library looks at these with isinstance, or calls their other methods.
BASES_THAT_LIBRARIES_DEMAND = {
    "AIOKafkaConsumer", "AbstractPartitionAssignor", "BaseHTTPRequestHandler", "Collector",
    "ConsumerRebalanceListener", "DynamicSink", "Fetcher", "Formatter", "Handler", "LoadScopeScheduling",
    "NodeVisitor", "RequestStruct", "Response", "RuleBasedStateMachine", "StatelessSinkPartition",
    "SSLContext", "UserProvidedCacheLocator",
}  # fmt: skip
LOG_METHODS = {"critical", "debug", "error", "exception", "info", "log", "warning"}
JIT_NAMES = {"cfunc", "guvectorize", "jit", "jitclass", "njit", "vectorize"}

# Written so that this file does not match itself.
LEFTOVER = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b|NotImplemented[E]rror")
PATH_OF_A_MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|work)/\w")
ADDRESS = re.compile(r"https?://|--(?:extra-)?index-url")


def check_sizes(source: Source) -> Iterator[Problem]:
    """Rule 5: a file, a function and a line have a length that can be read."""
    lines = source.text.splitlines()
    lines_max = PATH_LINES_MAX.get(source.path, PYTHON_LINES_MAX if source.is_python else len(lines))
    if len(lines) > lines_max:
        yield 1, f"the file has {len(lines)} lines, at most {lines_max}"
    if not source.is_python:
        return
    if Path(source.path).stem in NAMES_THAT_SAY_NOTHING:
        yield 1, "the file's name says nothing: name the concept"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX:
            yield number, f"the line has {len(line)} columns, at most {COLUMNS_MAX}"
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
            if length > FUNCTION_LINES_MAX:
                yield node.lineno, f"'{node.name}' has {length} lines, at most {FUNCTION_LINES_MAX}"


def _docstring_lines(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    text = ast.get_docstring(node, clean=False)
    return len(text.splitlines()) if text else 0


def check_docstring(source: Source) -> Iterator[Problem]:
    """Rule 23: a module says in at most 15 lines what it is, and why this way."""
    if not source.tree.body:
        return
    length = _docstring_lines(source.tree)
    if length == 0:
        yield 1, "the module has no docstring: what it is, why this way, what was rejected"
    elif length > DOCSTRING_LINES_MAX:
        yield 1, f"the module's docstring has {length} lines, at most {DOCSTRING_LINES_MAX}"


def check_inheritance(source: Source) -> Iterator[Problem]:
    """Rule 6: no inheritance but of protocols, records, enumerations and exceptions."""
    for node in source.nodes:
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            name = source.dotted(base.value if isinstance(base, ast.Subscript) else base).split(".")[-1]
            is_exception = name.endswith(("Error", "Exception", "Warning"))
            if not is_exception and name not in BASES | BASES_THAT_LIBRARIES_DEMAND:
                yield base.lineno, f"a class inherits from '{name}': choose at construction instead"


def check_purity(source: Source) -> Iterator[Problem]:
    """Rules 3 and 7: the core reads no clock, does no I/O, logs nothing and never waits."""
    if not is_core(source.module):
        return
    for line, name in source.imports():
        if name.split(".")[0] in IO_MODULES:
            yield line, f"the core imports {name}: only the shell does I/O, reads clocks and logs"
    for node in source.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield getattr(node, "lineno", 1), "the core is synchronous"
        if not isinstance(node, ast.Call):
            continue
        name = source.dotted(node.func)
        method = name.split(".")[-1] if "." in name else ""
        if name in IO_CALLS or method in IO_METHODS or name in IO_OF_NUMPY:
            yield node.lineno, f"the core does I/O: {name}()"
        if CLOCKS.search(name) or (name.endswith("datetime64") and _says_now(node)):
            yield node.lineno, f"the core reads a clock: {name}(); take *_ns as an argument"
        if name in HIDDEN_RANDOMNESS:
            yield node.lineno, f"the core depends on the process: {name}()"


def _says_now(call: ast.Call) -> bool:
    return any(isinstance(each, ast.Constant) and each.value in {"now", "today"} for each in call.args)


def check_randomness(source: Source) -> Iterator[Problem]:
    """Rule 9: randomness comes from a generator whose seed was given."""
    for line, name in source.imports():
        if name.split(".")[0] == "random":
            yield line, "hidden randomness: take a numpy.random.Generator"
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = source.dotted(node.func)
        if name.startswith("numpy.random.") and name.split(".")[2] not in SEEDED:
            yield node.lineno, f"hidden randomness: {name}; take a Generator"
        if name == "numpy.random.default_rng" and not node.args and not node.keywords:
            yield node.lineno, "hidden randomness: default_rng() without a seed"


def check_kernels(source: Source) -> Iterator[Problem]:
    """Rules 10 and 11: kernels are made by `@kernel` alone, at module level, from arrays, with a contract."""
    for node in source.nodes:
        if isinstance(node, ast.Attribute | ast.Name) and source.path != "engine/kernel.py":
            name = source.dotted(node)
            if name.startswith("numba.") and name.split(".")[-1] in JIT_NAMES:
                yield node.lineno, f"{name}: decorate with engine.kernel.kernel instead"
        if isinstance(node, ast.Call) and source.dotted(node.func) in KERNELS and not _is_test(source):
            yield node.lineno, "kernel(...) hides a kernel: decorate the function"
    module_state = _module_state(source.tree)
    for node in kernels(source):
        count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
        if node not in source.tree.body:
            yield node.lineno, f"kernel '{node.name}' is not at module level"
        if count > PARAMETERS_MAX:
            yield node.lineno, f"kernel '{node.name}' has {count} parameters, at most {PARAMETERS_MAX}"
        if not ast.get_docstring(node):
            yield node.lineno, f"kernel '{node.name}' has no docstring: shapes, dtypes, who owns the memory"
        for inner in (inner for statement in node.body for inner in ast.walk(statement)):
            if isinstance(inner, ast.Dict | ast.DictComp | ast.List | ast.ListComp | ast.Set | ast.SetComp):
                yield inner.lineno, f"kernel '{node.name}' makes a Python container: take an array"
            if isinstance(inner, ast.Name) and inner.id in module_state:
                yield inner.lineno, f"kernel '{node.name}' reads the global '{inner.id}': pass it"


def _is_test(source: Source) -> bool:
    return source.path.startswith("tests/")


def _module_state(tree: ast.Module) -> set[str]:
    """Find the module's variables: a kernel would freeze their value. Constants are in capitals."""
    targets: list[ast.expr] = []
    for node in tree.body:
        targets += node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else []
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.isupper()}


def check_logging(source: Source) -> Iterator[Problem]:
    """Rule 25: log text is static, with fields, so that no content of a call ends in it."""
    for node in source.nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        logger = source.dotted(node.func.value).split(".")[-1].strip("_").lower()
        if node.func.attr not in LOG_METHODS or logger not in {"log", "logger", "logging"}:
            continue
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        message = node.args[1:2] if node.func.attr == "log" else node.args[:1]
        is_static = all(isinstance(each, ast.Constant) for each in message)
        if not is_static or any(isinstance(each, ast.JoinedStr) for each in given):
            yield node.lineno, "log text is not static: give a literal, and the values as fields"


def check_fakes(source: Source) -> Iterator[Problem]:
    """Rule 26: a fake is a real implementation of the same contract, handed in."""
    for line, name in source.imports():
        if name == "mock" or name.startswith(("mock.", "unittest.mock", "pytest_mock")):
            yield line, f"{name}: hand in a real implementation of the contract"
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and source.dotted(node) in {"monkeypatch.setattr", "mock.patch"}:
            yield node.lineno, f"{source.dotted(node)}: hand in a real implementation of the contract"
        if isinstance(node, ast.arg) and node.arg == "mocker":
            yield node.lineno, "mocker: hand in a real implementation of the contract"


def check_sleeps(source: Source) -> Iterator[Problem]:
    """Only tests with real servers wait for the wall clock; the others pass time in."""
    if not source.path.startswith("tests/") or source.path.startswith("tests/integration/"):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and source.dotted(node.func) == "time.sleep":
            yield node.lineno, "the test waits for the wall clock: pass time in"


def check_text(source: Source) -> Iterator[Problem]:
    """Nothing unfinished, no path of one machine, no addresses in a lock file, no code among the data."""
    is_lock = source.path.endswith(".lock") or Path(source.path).name.startswith("requirements")
    for number, line in enumerate(source.text.splitlines(), 1):
        if source.is_python and (found := LEFTOVER.search(line)):
            yield number, f"leftover {found.group()}"
        if found := PATH_OF_A_MACHINE.search(line):
            yield number, f"a path of one machine: {found.group()}..."
        if is_lock and (found := ADDRESS.search(line)):
            yield number, f"an address in a lock file: {found.group()}"
    if source.is_python and source.path.startswith("config/"):
        yield 1, "config/ holds data only"


CHECKS_OF_PYTHON = (
    check_detectors, check_docstring, check_fakes, check_inheritance, check_kernels, check_line,
    check_logging, check_purity, check_randomness, check_sleeps,
)  # fmt: skip
CHECKS_OF_TEXT = (check_sizes, check_text)


def problems_of_file(path: str, text: str) -> list[str]:
    """Run every check on one file, given by its path in the tree and its text."""
    source = source_of(path, text)
    if fault := _syntax_error(source):
        return [f"{path}:{fault.lineno}: does not parse: {fault.msg}"]
    checks = CHECKS_OF_TEXT + (CHECKS_OF_PYTHON if source.is_python else ())
    return [f"{path}:{line}: {message}" for check in checks for line, message in check(source)]


def _syntax_error(source: Source) -> SyntaxError | None:
    try:
        _ = source.is_python and source.tree
    except SyntaxError as error:
        return error
    return None


def problems_of_twins(files: Iterable[tuple[str, str]]) -> list[str]:
    """Rule 12: the oracle, or a test that imports it, imports every kernel, or something that may call it."""
    sources = [source_of(path, text) for path, text in files]
    python = [source for source in sources if source.is_python and not _syntax_error(source)]
    ours = [source for source in python if source.path.startswith(("engine/", "detectors/"))]
    calls = _calls_by_name(ours)
    compared: set[str] = set()
    waiting = {name for source in python if _compares(source) for name in _names_of_ours(source)}
    while waiting:
        name = waiting.pop()
        compared.add(name)
        waiting |= calls.get(name, set()) - compared
    return [
        f"{source.path}:{node.lineno}: kernel '{node.name}' has no twin in tests/oracle.py"
        for source in ours
        for node in kernels(source)
        if node.name not in compared
    ]


def _compares(source: Source) -> bool:
    """Say whether a file holds twins, or compares with them."""
    if source.path.startswith("tests/oracle"):
        return True
    is_test = source.path.startswith("tests/test_")
    return is_test and any(name.startswith("tests.oracle") for _, name in source.imports())


def _names_of_ours(source: Source) -> Iterator[str]:
    """Give the names that a file takes from our packages, from their modules too: `ceiling.walk_bins`."""
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("engine", "detectors")):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.Attribute) and source.dotted(node).startswith(("engine.", "detectors.")):
            yield node.attr


def _calls_by_name(sources: Iterable[Source]) -> dict[str, set[str]]:
    """Give what each function may call, by names alone; a class may call what its methods call."""
    calls: dict[str, set[str]] = {}
    for source in sources:
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside = (one.func for one in ast.walk(node) if isinstance(one, ast.Call))
                called = {one.id for one in inside if isinstance(one, ast.Name)}
                calls.setdefault(node.name, set()).update(called)
    return calls


def problems_of_arrays(files: Iterable[tuple[str, str]]) -> list[str]:
    """Kernels do not count references: what an allocating kernel returns to one is never let go of."""
    sources = [source_of(path, text) for path, text in files]
    python = [source for source in sources if source.is_python and not _syntax_error(source)]
    givers = {
        node.name
        for source in python
        for node in kernels(source, (ALLOCATING,))
        if node.returns and "NDArray" in ast.unparse(node.returns)
    }
    return [
        f"{source.path}:{node.lineno}: kernel '{node.name}' would leak what '{call.func.id}' allocates"
        for source in python
        for node in kernels(source, (KERNEL, INLINED))
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in givers
    ]


def problems_of_top_level(names: Iterable[str]) -> list[str]:
    """Name what does not belong beside the folders of the project."""
    ours = {name for name in names if name in TOP_LEVEL or not name.startswith(MADE_BY_TOOLS)}
    return [f"{name}: does not belong at the top level" for name in sorted(ours - TOP_LEVEL)]


def problems_of_tree(root: Path) -> list[str]:
    """Run every check on a tree."""
    files = list(_text_files(root))
    problems = problems_of_top_level(path.name for path in root.iterdir())
    for path, text in files:
        problems += problems_of_file(path, text)
    return problems + problems_of_twins(files) + problems_of_arrays(files)


def _text_files(root: Path) -> Iterator[tuple[str, str]]:
    for top in sorted(TOP_LEVEL):
        for path in sorted([root / top, *(root / top).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                if b"\0" not in content:
                    yield path.relative_to(root).as_posix(), content.decode("utf-8", "replace")

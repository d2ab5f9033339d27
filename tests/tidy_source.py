"""A source file as the tidy checks see it: its text, its tree, and names with their imports resolved.

`np.random.rand` reads as `numpy.random.rand` whatever numpy is called there, so no rule is walked round by
`import ... as`. What the core is stands here too, since several rules ask.
"""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Problem: TypeAlias = tuple[int, str]

# What lies between decode and update, and what is made of text for it once the shell has read the file: no
# clock, no I/O, no logging, no hidden randomness.
CORE = (
    "engine.errors", "engine.addresses", "engine.erlang", "engine.durations", "engine.strict_yaml",
    "engine.fields", "engine.limits", "engine.settings", "engine.learned",
    "engine.settings_check",
    "engine.decode",
    "engine.observe", "engine.judge", "engine.pipeline", "engine.publish", "detectors",
)  # fmt: skip
KERNEL = "engine.kernel.kernel"
ALLOCATING = "engine.kernel.allocating_kernel"
INLINED = "engine.kernel.inlined_kernel"
KERNELS = (KERNEL, INLINED, ALLOCATING)


def is_core(module: str) -> bool:
    """Say whether a module belongs to the core."""
    return is_in(module, CORE)


def is_in(name: str, modules: tuple[str, ...]) -> bool:
    """Say whether a dotted name is one of some modules, or something inside one."""
    return any(name == module or name.startswith(module + ".") for module in modules)


@dataclass(frozen=True)
class Source:
    """One file: its path from the root of the tree, and its text."""

    path: str
    text: str

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def module(self) -> str:
        """Give the name that others import."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Give all nodes of the tree: every rule goes through them."""
        return tuple(ast.walk(self.tree))

    def imports(self) -> list[Problem]:
        """List line and full name of everything that is imported: `from a.b import c` is `a.b.c`."""
        found: list[Problem] = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                found += [(node.lineno, f"{origin}.{alias.name}") for alias in node.names]
        return found

    def dotted(self, node: ast.expr) -> str:
        """Write an expression as a dotted name, with the names that were imported resolved."""
        if isinstance(node, ast.Name):
            return self._aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.dotted(node.value)}.{node.attr}"
        return ""

    @functools.cached_property
    def _aliases(self) -> dict[str, str]:
        aliases: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                aliases |= {each.asname or each.name: f"{origin}.{each.name}" for each in node.names}
            elif isinstance(node, ast.Import):
                aliases |= {each.asname: each.name for each in node.names if each.asname}
        return aliases

    def _origin(self, node: ast.ImportFrom) -> str:
        """Resolve the dots of a relative import."""
        if node.level == 0:
            return node.module or ""
        folder = self.path.split("/")[: -node.level]
        return ".".join([*folder, *([node.module] if node.module else [])])


def kernels(source: Source, decorators: tuple[str, ...] = KERNELS) -> Iterator[ast.FunctionDef]:
    """Find the compiled functions of a file, however the decorator is called there."""
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if source.dotted(called) in decorators:
                    yield node


@functools.cache
def source_of(path: str, text: str) -> Source:
    """Give the same source each time, which is parsed once."""
    return Source(path, text)

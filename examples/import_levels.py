"""How deep does each module of the standard library stand on the others?

A module that imports nothing has level 0, any other one more than the deepest module it
imports. The level of every module is bound in the environment as a *program*: asking for
it runs that program, once however many modules ask, and import cycles show themselves as
CircularAskError. No recursion limit applies, and no order has to be worked out first.

    doeff run import_levels:program
"""

from __future__ import annotations

import ast
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doeff import (
    Ask,
    CircularAskError,
    EffectBase,
    EffectGenerator,
    Err,
    HandlerContext,
    Listen,
    Local,
    Ok,
    Program,
    Safe,
    Tell,
    do,
    sync_handlers_preset,
    sync_run,
)

# --- effects and values -----------------------------------------------------------------


@dataclass(frozen=True)
class ListModules(EffectBase):
    """Gives the names of the modules to look at, sorted."""


@dataclass(frozen=True)
class ImportsOf(EffectBase):
    """Gives the names of the modules that a module imports when it is loaded, sorted."""

    module: str


@dataclass(frozen=True)
class LevelOf:
    """Environment key of a module's level."""

    module: str


@dataclass(frozen=True)
class Cycle:
    """Finding: an import that leads back to where it came from, and was not followed."""

    module: str
    imported: str


@dataclass(frozen=True)
class Unreadable:
    """Finding: a module whose imports are not known."""

    module: str
    reason: str


@dataclass(frozen=True)
class Levels:
    """What the program returns."""

    levels: dict[str, int]
    cycles: list[Cycle]
    unreadable: list[Unreadable]

    def __str__(self) -> str:
        return "\n".join(table(self))


# --- the program --------------------------------------------------------------------------


@do
def program() -> EffectGenerator[Levels]:
    """The levels of all modules."""
    modules = yield ListModules()
    found = yield Local(
        {LevelOf(module): level(module) for module in modules},
        Listen(all_levels(modules)),
    )
    return Levels(
        levels=found.value,
        cycles=[item for item in found.log if isinstance(item, Cycle)],
        unreadable=[item for item in found.log if isinstance(item, Unreadable)],
    )


@do
def all_levels(modules: list[str]) -> EffectGenerator[dict[str, int]]:
    levels = {}
    for module in modules:
        levels[module] = yield Ask(LevelOf(module))
    return levels


@do
def level(module: str) -> EffectGenerator[int]:
    imports = yield Safe(ImportsOf(module))
    match imports:
        case Err(error):
            yield Tell(Unreadable(module, f"{type(error).__name__}: {error}"))
            return 0
        case Ok(names):
            levels = []
            for name in names:
                levels.append((yield level_of_import(module, name)))
            return 1 + max(levels, default=-1)


@do
def level_of_import(module: str, name: str) -> EffectGenerator[int]:
    """Level of an imported module, or -1 if the import closes a cycle."""
    try:
        found: int = yield Ask(LevelOf(name))
    except CircularAskError:
        yield Tell(Cycle(module, name))
        return -1
    return found


# --- handlers -------------------------------------------------------------------------------


def handlers_for(sources: Callable[[str], str | None], modules: list[str]) -> list[Any]:
    """Handlers that read imports from source text; None for a module written in C."""
    known = set(modules)

    @do
    def list_modules(effect: ListModules, ctx: HandlerContext) -> list[str]:
        return modules

    @do
    def imports_of(effect: ImportsOf, ctx: HandlerContext) -> list[str]:
        source = sources(effect.module)
        found = top_level_imports(source) if source is not None else set()
        return sorted(found & known - {effect.module})

    return [list_modules, imports_of]


def in_memory(imports: Mapping[str, list[str]]) -> list[Any]:
    """Handlers that serve canned answers."""

    @do
    def list_modules(effect: ListModules, ctx: HandlerContext) -> list[str]:
        return sorted(imports)

    @do
    def imports_of(effect: ImportsOf, ctx: HandlerContext) -> list[str]:
        return imports[effect.module]

    return [list_modules, imports_of]


def top_level_imports(source: str) -> set[str]:
    """First parts of the modules that a source imports outside functions."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(
            node, ast.Module | ast.If | ast.Try | ast.With | ast.ExceptHandler
        ):
            todo += ast.iter_child_nodes(node)
    return found


def standard_library_source(module: str) -> str | None:
    """Source of a module or of a package's ``__init__``; None if it has none."""
    folder = Path(tokenize.__file__).parent
    for path in (folder / f"{module}.py", folder / module / "__init__.py"):
        if path.is_file():
            with tokenize.open(path) as file:
                return file.read()
    return None


# --- running it -------------------------------------------------------------------------------


def interpret(program: Program[Any]) -> Any:  # doeff: interpreter, default
    modules = sorted(sys.stdlib_module_names)
    handlers = [*sync_handlers_preset, *handlers_for(standard_library_source, modules)]
    return sync_run(program, handlers)


def table(found: Levels, shown: int = 12) -> Iterator[str]:
    yield f"{len(found.levels)} modules of the standard library, by level"
    yield ""
    sizes = Counter(found.levels.values())
    widest = max(sizes.values(), default=1)
    for number in sorted(sizes):
        bar = "#" * max(1, round(50 * sizes[number] / widest))
        yield f"  {number:>3}  {bar} {sizes[number]}"
    yield ""
    yield "Deepest"
    for name in sorted(found.levels, key=lambda name: (-found.levels[name], name))[
        :shown
    ]:
        yield f"  {found.levels[name]:>3}  {name}"
    yield ""
    cycles = ", ".join(
        f"{item.module} -> {item.imported}" for item in found.cycles[:shown]
    )
    yield f"{len(found.cycles)} imports close a cycle{': ' if cycles else ''}{cycles}"
    for item in found.unreadable:
        yield f"not readable: {item.module} ({item.reason})"

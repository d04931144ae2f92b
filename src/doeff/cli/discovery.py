"""Default interpreters and environments, found by ``# doeff:`` comments.

A function marked ``# doeff: interpreter, default`` is the default interpreter of its
module and of what lies below it; a module variable marked ``# doeff: default`` is a
default environment. Modules are read with ``ast`` and ``tokenize``, not run.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import os
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MARKER",
    "Markers",
    "default_envs",
    "default_interpreter",
    "interpreter_near",
    "read_markers",
]

MARKER = "# doeff: interpreter, default"

_COMMENT = re.compile(r"#\s*doeff:(?P<tags>[^#]*)", re.IGNORECASE)
_DOCSTRING = re.compile(r"^\s*#?\s*doeff:(?P<tags>.*)$", re.IGNORECASE | re.MULTILINE)


class Markers(NamedTuple):
    """What one module marks, in source order: names of functions and of variables."""

    interpreters: tuple[str, ...]
    envs: tuple[str, ...]


class _Comments(NamedTuple):
    tags: dict[int, frozenset[str]]
    alone: frozenset[int]  # lines that hold nothing but a comment

    def at(self, lines: range) -> set[str]:
        return {tag for line in lines for tag in self.tags.get(line, ())}

    def first_line_above(self, line: int) -> int:
        """First line of the block of comment lines that ends right above ``line``."""
        while line - 1 in self.alone:
            line -= 1
        return line


def read_markers(source: str) -> Markers:
    """Read the markers of a module from its source text.

    source: Python source.

    Returns the marked names; none if the source does not parse.

    Example::

        found = read_markers("base = {}  # doeff: default")
        assert found.envs == ("base",)
    """
    if "doeff:" not in source.lower():
        return Markers((), ())
    try:
        tree = ast.parse(source)
        comments = _read_comments(source)
    except (SyntaxError, ValueError, tokenize.TokenError):
        return Markers((), ())
    interpreters = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and {"interpreter", "default"} <= _function_tags(node, comments)
    ]
    envs = [
        name
        for node in tree.body
        for name in _variable_names(node)
        if _is_default_env(_variable_tags(node, comments))
    ]
    return Markers(tuple(interpreters), tuple(envs))


def _split_tags(text: str) -> frozenset[str]:
    return frozenset(tag.lower() for tag in re.split(r"[,\s]+", text) if tag)


def _read_comments(source: str) -> _Comments:
    tags: dict[int, frozenset[str]] = {}
    alone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if not token.line[: token.start[1]].strip():
            alone.add(line)
        match = _COMMENT.match(token.string)
        if match is not None:
            tags[line] = _split_tags(match["tags"])
    return _Comments(tags, frozenset(alone))


def _function_tags(node: ast.FunctionDef, comments: _Comments) -> set[str]:
    start = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    first = comments.first_line_above(start)
    tags = comments.at(range(first, max(node.lineno + 1, node.body[0].lineno)))
    docstring = ast.get_docstring(node, clean=False) or ""
    for match in _DOCSTRING.finditer(docstring):
        tags |= _split_tags(match["tags"])
    return tags


def _variable_names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        targets: list[ast.expr] = [node.target]
    elif isinstance(node, ast.Assign):
        targets = node.targets
    else:
        return
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id


def _variable_tags(node: ast.stmt, comments: _Comments) -> set[str]:
    above = node.lineno - 1
    first = above if above in comments.alone else node.lineno
    return comments.at(range(first, node.lineno + 1))


def _is_default_env(tags: set[str]) -> bool:
    return "default" in tags and "interpreter" not in tags


def _module_markers(module_name: str) -> Markers:
    """Markers of an importable module; imports its parent packages, not itself."""
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        return Markers((), ())
    origin = None if spec is None else spec.origin
    if origin is None or not origin.endswith(".py"):
        return Markers((), ())
    return _file_markers(Path(origin))


def _file_markers(path: Path) -> Markers:
    try:
        with tokenize.open(path) as file:
            source = file.read()
    except (OSError, SyntaxError, UnicodeError):
        return Markers((), ())
    return read_markers(source)


def _hierarchy(module_name: str) -> list[str]:
    parts = module_name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def default_interpreter(module_name: str) -> str | None:
    """Path of the default interpreter for programs of a module: the deepest wins.

    module_name: dotted name, e.g. ``a.b.c``; ``a``, ``a.b`` and ``a.b.c`` are read.

    Returns None if no function there is marked.

    Example::

        assert default_interpreter("json.decoder") is None
    """
    for name in reversed(_hierarchy(module_name)):
        found = _module_markers(name).interpreters
        if found:
            return f"{name}.{found[0]}"
    return None


def default_envs(module_name: str) -> list[str]:
    """Paths of the default environments for programs of a module, outermost first.

    module_name: dotted name, read as in ``default_interpreter``.

    Example::

        assert default_envs("json.decoder") == []
    """
    return [
        f"{name}.{env}"
        for name in _hierarchy(module_name)
        for env in _module_markers(name).envs
    ]


def interpreter_near(folder: Path) -> tuple[str, Path] | None:
    """Topmost default interpreter of a package in or under a folder.

    folder: a folder inside a package, or one that holds packages.

    Returns its path and the folder that must be on ``sys.path`` to import it, or None
    if there is no package or none of its functions is marked.

    Example::

        assert interpreter_near(Path(os.devnull).parent) is None
    """
    for root in _packages_near(folder):
        for path in _modules_from_the_top(root):
            found = _file_markers(path).interpreters
            if found:
                parts = [root.name, *path.relative_to(root).with_suffix("").parts]
                if parts[-1] == "__init__":
                    parts.pop()
                return ".".join([*parts, found[0]]), root.parent
    return None


def _packages_near(folder: Path) -> list[Path]:
    if _is_package(folder):
        while _is_package(folder.parent) and folder.parent != folder:
            folder = folder.parent
        return [folder]
    try:
        return sorted(
            item for item in folder.iterdir() if item.is_dir() and _is_package(item)
        )
    except OSError:
        return []


def _is_package(folder: Path) -> bool:
    return folder.name.isidentifier() and (folder / "__init__.py").is_file()


def _modules_from_the_top(root: Path) -> list[Path]:
    found: list[tuple[int, bool, str]] = []
    for here, folders, files in os.walk(root):
        folders[:] = sorted(item for item in folders if _is_package(Path(here, item)))
        depth = len(Path(here).relative_to(root).parts)
        found.extend(
            (depth, name != "__init__.py", os.path.join(here, name))
            for name in files
            if name.endswith(".py")
        )
    return [Path(path) for _, _, path in sorted(found)]

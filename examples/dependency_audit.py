"""Audit the packages that are installed in the running Python's environment.

Which requirement is not installed, which package states no licence, which one does
nobody need, and how much does each pull in? The metadata of a package is read once,
because the program that reads it is cached, though many packages ask for it.

    doeff run dependency_audit:program
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from doeff import (
    EffectBase,
    EffectGenerator,
    Err,
    HandlerContext,
    Listen,
    Ok,
    Program,
    Safe,
    Tell,
    cache,
    do,
    sync_handlers_preset,
    sync_run,
)

# --- effects and values -------------------------------------------------------------------


@dataclass(frozen=True)
class ListPackages(EffectBase):
    """Gives the normalised names of all installed packages, sorted."""


@dataclass(frozen=True)
class ReadPackage(EffectBase):
    """Gives what the metadata of an installed package says; KeyError if there is none."""

    name: str


@dataclass(frozen=True)
class Package:
    """A package: what it needs is given as normalised names without options."""

    name: str
    version: str
    licence: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """Finding: a requirement that is not installed."""

    package: str
    requirement: str


@dataclass(frozen=True)
class NoLicence:
    """Finding: a package that states no licence."""

    package: str


@dataclass(frozen=True)
class Row:
    """One package of the audit: what it pulls in, directly and through others."""

    package: Package
    pulls_in: frozenset[str]
    needed: bool


@dataclass(frozen=True)
class Audit:
    """What the program returns."""

    rows: list[Row]
    missing: list[Missing]
    no_licence: list[NoLicence]

    def __str__(self) -> str:
        return "\n".join(table(self))


# --- the program ----------------------------------------------------------------------------


@do
def program() -> EffectGenerator[Audit]:
    """Audit all packages."""
    names = yield ListPackages()
    found = yield Listen(audit_packages(names))
    return Audit(
        rows=found.value,
        missing=[item for item in found.log if isinstance(item, Missing)],
        no_licence=[item for item in found.log if isinstance(item, NoLicence)],
    )


@do
def audit_packages(names: list[str]) -> EffectGenerator[list[Row]]:
    packages = []
    for name in names:
        package = yield read_package(name)
        if not package.licence:
            yield Tell(NoLicence(name))
        packages.append(package)
    needed = {need for package in packages for need in package.needs}
    rows = []
    for package in packages:
        pulls_in = yield everything_below(package)
        rows.append(Row(package, pulls_in, package.name in needed))
    return rows


@cache()
@do
def read_package(name: str) -> EffectGenerator[Package]:
    package: Package = yield ReadPackage(name)
    return package


@do
def everything_below(package: Package) -> EffectGenerator[frozenset[str]]:
    """Names of the installed packages that a package needs, directly or not."""
    found: set[str] = set()
    todo = [package]
    while todo:
        current = todo.pop()
        for need in current.needs:
            if need in found:
                continue
            match (yield Safe(read_package(need))):
                case Ok(needed):
                    found.add(need)
                    todo.append(needed)
                case Err(_) if current is package:
                    yield Tell(Missing(package.name, need))
    return frozenset(found - {package.name})


# --- handlers ---------------------------------------------------------------------------------


def serve(packages: Mapping[str, Package]) -> list[Any]:
    """Handlers that answer from a mapping; the tests pass one of their own."""

    @do
    def list_packages(effect: ListPackages, ctx: HandlerContext) -> list[str]:
        return sorted(packages)

    @do
    def read_one(effect: ReadPackage, ctx: HandlerContext) -> Package:
        return packages[effect.name]

    return [list_packages, read_one]


def installed_packages() -> dict[str, Package]:
    packages = map(_package, metadata.distributions())
    return {package.name: package for package in packages if package.name}


def _package(found: metadata.Distribution) -> Package:
    head = found.metadata
    licence = _field(head, "License-Expression") or _field(head, "License")
    if not licence:
        known = [
            item for item in head.get_all("Classifier") or () if "License ::" in item
        ]
        licence = known[0].rpartition(":: ")[2] if known else ""
    return Package(
        name=normalised(_field(head, "Name")),
        version=_field(head, "Version"),
        licence=licence.strip().partition("\n")[0],
        needs=tuple(
            sorted(
                {
                    normalised(text)
                    for text in found.requires or ()
                    if not is_conditional(text)
                }
            )
        ),
    )


def _field(head: metadata.PackageMetadata, name: str) -> str:
    return head.get(name, "")


def normalised(requirement: str) -> str:
    """Name of a requirement as package indexes compare it.

    Example: ``Ruamel.YAML (>=0.17)`` gives ``ruamel-yaml``.
    """
    name = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return re.sub(r"[-_.]+", "-", name[1]).lower() if name else requirement


def is_conditional(requirement: str) -> bool:
    """Whether a requirement holds only for some platforms or extras."""
    return ";" in requirement


# --- running it -------------------------------------------------------------------------------


def interpret(program: Program[Any]) -> Any:  # doeff: interpreter, default
    return sync_run(program, [*sync_handlers_preset, *serve(installed_packages())])


def table(audit: Audit) -> Iterator[str]:
    yield f"{len(audit.rows)} packages"
    yield ""
    yield f"  {'package':<28} {'version':<12} {'pulls in':>8}  licence"
    for row in audit.rows:
        mark = " " if row.needed else "*"
        name, version = row.package.name, row.package.version
        licence = row.package.licence[:30] or "not stated"
        yield f"{mark} {name:<28} {version:<12} {len(row.pulls_in):>8}  {licence}"
    yield ""
    yield "* no other package needs it"
    for item in audit.missing:
        yield f"missing: {item.package} needs {item.requirement}, which is not installed"
    if audit.no_licence:
        yield f"no licence stated: {', '.join(item.package for item in audit.no_licence)}"

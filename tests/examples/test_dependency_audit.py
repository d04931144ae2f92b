"""The audit of packages that exist only here."""

from __future__ import annotations

import dependency_audit as demo
from doeff import do, sync_handlers_preset, sync_run

PACKAGES = {
    "app": demo.Package("app", "1.0", "MIT", ("lib", "gone")),
    "lib": demo.Package("lib", "2.1", "", ("base",)),
    "base": demo.Package("base", "3", "BSD", ("lib",)),
    "alone": demo.Package("alone", "0.1", "MIT"),
}


def test_audit():
    handlers = [*sync_handlers_preset, *demo.serve(PACKAGES)]
    audit = sync_run(demo.program(), handlers).value
    rows = {row.package.name: row for row in audit.rows}
    assert list(rows) == ["alone", "app", "base", "lib"]
    assert rows["app"].pulls_in == {"lib", "base"}
    assert rows["lib"].pulls_in == {"base"}
    assert rows["alone"].pulls_in == set()
    assert {name for name, row in rows.items() if not row.needed} == {"alone", "app"}
    assert audit.missing == [demo.Missing("app", "gone")]
    assert audit.no_licence == [demo.NoLicence("lib")]
    text = str(audit)
    assert "missing: app needs gone" in text
    assert "no licence stated: lib" in text


def test_metadata_is_read_once():
    reads = []
    listing, _ = demo.serve(PACKAGES)

    @do
    def counted(effect: demo.ReadPackage, ctx):
        reads.append(effect.name)
        return PACKAGES[effect.name]

    sync_run(demo.program(), [*sync_handlers_preset, listing, counted]).value
    assert sorted(name for name in reads if name != "gone") == sorted(PACKAGES)


def test_requirement_names():
    assert demo.normalised("Ruamel.YAML (>=0.17)") == "ruamel-yaml"
    assert demo.normalised("rich>=13") == "rich"
    assert demo.is_conditional("rich>=13; extra == 'progress'")
    assert not demo.is_conditional("rich>=13")


def test_the_running_environment():
    audit = demo.interpret(demo.program()).value
    names = [row.package.name for row in audit.rows]
    assert "doeff-c" in names
    assert "pytest" in names

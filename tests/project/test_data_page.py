"""The page on sources of fields: what it says to type names sources and options that there are."""

import re

import pytest
from emuloss.datasets.sources.opening import SOURCES, options_taken
from frame import ROOT

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
ROWS = [row for row in PAGE.splitlines() if row.startswith("| ") and "`" in row]
SPECS = [spec for row in ROWS for spec in re.findall(r"`'?((?:\w+:)[\w:/*.]+)[^`]*`", row)]


def test_every_source_has_a_row():
    assert {spec.split(":")[0] for spec in SPECS} | {"rain", "array"} >= set(SOURCES)
    assert any(row.endswith("| `rain` (synthetic) |") for row in ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if "--source-option" in row])
def test_options_are_those_of_the_source(row):
    named = re.findall(r"`'?((?:opera|pysteps|xarray|images):[\w:/*.]+)", row)
    known = options_taken(named[0] if named else "xarray:FOLDER")
    options = re.findall(r"--source-option '?(\w+)=", row)
    assert options
    assert set(options) <= set(known)


def test_options_of_archives_are_those_of_each():
    section = PAGE[PAGE.index("## What all archives") :]
    options = {*re.findall(r"--source-option (\w+)=", section), "size", "stride", "skip_unreadable"}
    for spec in ("opera:FOLDER", "pysteps:fmi_pgm:FOLDER", "xarray:FOLDER"):
        assert options <= set(options_taken(spec))

"""Docstrings are plain text with `code` in it, and links of pages lead to files: both made fit for Sphinx."""

import re

PAGES = {"CONTRIBUTING.md": "contributing.md"}
"""Pages by what of the top folder they include."""
_KNOWN = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")
_CODE = re.compile(r"(`[^`\n]+`)")
_SPECIAL = re.compile(r"([\\*|]|_(?![\w`]))")
_SECTION = re.compile(r"[A-Z]\w+:")
_TUTORIAL = re.compile(r"\]\(tutorials/(plot_\w+)\.py\)")


def as_restructured_text(app, what, name, obj, options, lines) -> None:
    """`code` in two backticks, what would be markup in our formulas as it is, formulas set apart as code."""
    found: list[str] = []
    section = ""
    for line in lines:
        if _SECTION.fullmatch(line):
            section = line
            found += [line] if line in _KNOWN else [f".. rubric:: {line[:-1]}", ""]
        elif section and section not in _KNOWN:
            found += _listed(line)
        elif not section and line.startswith("    ") and _set_apart(found):
            found += [*_opened(found), line]
        elif section:  # what belongs to an argument stands below it, however far it is indented
            depth = len(line) - len(line.lstrip())
            found.append(" " * min(depth, 8) + _escaped(line.lstrip()))
        else:
            found.append(_escaped(line))
    lines[:] = found


def _escaped(line: str) -> str:
    parts = _CODE.split(line)
    return "".join(f"`{part}`" if _CODE.fullmatch(part) else _SPECIAL.sub(r"\\\1", part) for part in parts)


def _set_apart(above: list[str]) -> bool:
    """Whether an indented line goes on with, or begins, a formula that stands by itself."""
    return not above or not above[-1].strip() or (above[-1].startswith("    ") and "::" in above)


def _opened(above: list[str]) -> list[str]:
    """What begins a block of code, unless one is open."""
    last = [line for line in above if line.strip()]
    return [] if last and (last[-1] == "::" or last[-1].startswith("    ")) else ["::", ""]


def _listed(line: str) -> list[str]:
    """A line of a section of things that have arguments themselves: a heading, an argument, or its rest."""
    text = line.strip()
    depth = len(line) - len(line.lstrip())
    name, colon, rest = text.partition("): " if depth == 4 else ": ")
    if depth == 4:
        return ["", f"``{name}{')' if colon else ''}``  {_escaped(rest)}", ""]
    if depth == 8 and colon:
        return [f"- ``{name}``: {_escaped(rest)}"]
    return [f"  {_escaped(text)}" if text else ""]


def links_to_files(app, name, source) -> None:
    """Links out of the folder of pages, and to tutorials, lead to the pages that hold the files' text."""
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"](../{file}", f"]({page}")
    source[0] = _TUTORIAL.sub(r"](_generated/tutorials/\1.rst)", source[0])

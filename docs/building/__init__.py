"""What the site makes from the code of the package: cards, the reference, pictures, the page to play with."""

from pathlib import Path

DOCS = Path(__file__).parents[1]
GENERATED = DOCS / "_generated"
"""Where everything goes that no one wrote; git ignores it."""


def put(name: str, text: str) -> None:
    """Write a generated page, unless it stands there already: Sphinx reads anew what has changed."""
    path = GENERATED / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")

"""Whether all links of the built site lead somewhere, and nothing is loaded from elsewhere.

python docs/building/check.py build/site
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {
    ("script", "src"),
    ("img", "src"),
    ("link", "href"),
    ("source", "src"),
    ("iframe", "src"),
    ("object", "data"),
}
_NOT_LOADED = {"canonical", "prev", "next", "index", "search", "author", "license"}
_IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?(https?:)?//""")


class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs) -> None:
        """Note what a tag refers to."""
        given = dict(attrs)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        for key in ("href", "src", "data"):
            value = given.get(key)
            if not value or (tag == "link" and given.get("rel") in _NOT_LOADED):
                continue
            self.links.append(value)
            if (tag, key) in LOADING:
                self.loaded.append(value)


def faults(root: Path) -> list[str]:
    """What is wrong with the site, a line each."""
    pages = {path: Page(path) for path in root.rglob("*.html") if "_static" not in path.parts}
    found = []
    for path, page in pages.items():
        place = path.relative_to(root)
        found += [f"{place} loads {each}" for each in page.loaded if urlsplit(each).netloc]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            if not aim.exists():
                found.append(f"{place} links to {link}, which is not there")
            elif aim in pages and unquote(parts.fragment) not in pages[aim].anchors:
                found.append(f"{place} links to {link}, and there is no such place")
    for path in root.rglob("*.css"):
        if _IN_STYLE.search(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(root)} loads something from elsewhere")
    return sorted(set(found))


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or "all links lead somewhere, and nothing is loaded from elsewhere")
    sys.exit(bool(wrong))

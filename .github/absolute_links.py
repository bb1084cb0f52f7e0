"""Make the links of a README absolute, since PyPI shows it without the files that stand beside it.

python .github/absolute_links.py https://github.com/OWNER/NAME v0.2.0 README.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|mailto:|#)([^)\s]+)\)")


def absolute(text: str, repository: str, version: str) -> str:
    """Markdown whose links and pictures lead to files of a version in a repository on GitHub."""

    def linked(found: re.Match[str]) -> str:
        picture, label, path = found.groups()
        return f"{picture}{label}({repository}/{'raw' if picture else 'blob'}/{version}/{path})"

    return _LINK.sub(linked, text)


if __name__ == "__main__":
    repository, version, readme = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    readme.write_text(absolute(readme.read_text("utf-8"), repository, version), "utf-8")

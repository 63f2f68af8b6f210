"""Pages of the site that lie outside docs/, where people look for them in the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the repository, and the pages of the site that they become."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s:]+)((?:#[^)]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links between files of the repository lead to their pages."""
    place_in_repository = {page: source for source, page in OUTSIDE.items()}
    here = page.file.src_uri
    source = place_in_repository.get(here, f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        file = os.path.normpath(os.path.join(os.path.dirname(source), target))
        site = OUTSIDE.get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
        if site is None:
            return match.group()
        return before + os.path.relpath(site, os.path.dirname(here) or ".") + after

    return _LINK.sub(moved, markdown)

"""How the pages become a site: ``make docs`` builds it, and a link that leads nowhere fails it."""

from __future__ import annotations

import registryd

project = "registryd"
author = "The registryd authors"
copyright = author
release = version = registryd.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "docs/index"
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "docs/*/*.md", "systemd/README.md",
]  # fmt: skip
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "registryd"
html_static_path: list[str] = []
html_show_sphinx = False

"""Makes the pages of the site that are not files of `docs/`, and leads their links within it.

README.md is its first page, and the other documents beside it are pages, too, so that none of them
is written twice. The pages of the Python API are read from the docstrings.
"""

from __future__ import annotations

import importlib
import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[2]
# The documents beside `docs/`, and their pages.
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "examples/README.md": "examples.md",
}
# What the page of the examples shows after its text.
EXAMPLES = ("agent.py", "async_agent.py", "gateway.py", "imu_node.py", "node/replay.js")
# The public packages and their pages.
PACKAGES = {
    "tickcell.client": "api/client.md",
    "tickcell.client.errors": "api/errors.md",
    "tickcell.model": "api/model.md",
    "tickcell.model.recording": "api/recording.md",
}
# Code, which is left as it is, or a link.
_CODE_OR_LINK = re.compile(
    r"^ *```.*?^ *```|^(?: {4}|\t).*?$|`[^`\n]+`"
    r"|\[(?P<text>[^]]*)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)",
    re.M | re.S,
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that are made here."""
    for source, page in BESIDE.items():
        text = (PROJECT / source).read_text(encoding="utf-8")
        if page == "examples.md":
            text += "".join(map(_listing, EXAMPLES))
        files.append(File.generated(config, page, content=text))
    for package, page in PACKAGES.items():
        files.append(File.generated(config, page, content=_reference(package)))
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: object) -> str:
    """Leads links between documents to their pages; what has none becomes its path."""
    sources = {page: source for source, page in BESIDE.items()}
    path = page.file.src_uri
    source = sources.get(path, posixpath.join("docs", path))

    def led(found: re.Match[str]) -> str:
        if found["target"] is None:
            return found[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found["target"]))
        document = BESIDE.get(target, target.removeprefix("docs/"))
        if document in files.src_uris:
            relative = posixpath.relpath(document, posixpath.dirname(path) or ".")
            return f"[{found['text']}]({relative}{found['anchor'] or ''})"
        if (PROJECT / target).exists():
            text = found["text"]
            return f"`{target}`" if text.startswith("`") else f"{text} (`{target}`)"
        return found[0]

    return _CODE_OR_LINK.sub(led, markdown)


def _listing(example: str) -> str:
    """Returns the part of a page that shows an example."""
    code = (PROJECT / "examples" / example).read_text(encoding="utf-8")
    language = {".py": "python", ".js": "javascript"}[Path(example).suffix]
    return f"\n## {example}\n\n```{language}\n{code}```\n"


def _reference(package: str) -> str:
    """Returns the page of a package: its docstring, and each of its public names."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None)
    options = {"show_root_heading": False, "show_root_toc_entry": False, "members": names is None}
    head = f"# `{package}`\n\n::: {package}\n    options: {json.dumps(options)}\n"
    # A module has a page of its own.
    own = [name for name in names or () if f"{package}.{name}" not in PACKAGES]
    return head + "".join(f"\n::: {package}.{name}\n" for name in own)

"""Templates into text, and text into files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, page: Mapping[str, Any]) -> str:
    """A template of eval/templates; HTML is escaped, Markdown cells by the filter `cell`."""
    environment = Environment(
        loader=PackageLoader("eval"), autoescape=template.endswith(".html"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = markdown_cell
    return environment.get_template(template).render(**page)


def markdown_cell(value: Any) -> str:
    """Text that cannot break out of a Markdown table cell, nor be read as HTML."""
    text = "" if value is None else str(value)
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\r", " "), ("\n", " ")):
        text = text.replace(raw, safe)
    return text


def write_file(path: Path, content: str | bytes) -> None:
    """Write whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, path)

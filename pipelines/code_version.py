"""Code versions: a digest of what source files do, blind to comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@lru_cache(maxsize=256)  # one answer per process: a file that is edited while a run goes on is not the code that runs
def code_version(*places: str) -> str:
    """12 hex digits over the files and folders named relative to the project, e.g. "pipelines/split.py", "models/animate_anyone"."""
    digest = hashlib.sha256()
    for place in places:
        path = ROOT / place
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file.relative_to(ROOT)}\n{_meaning(file)}\n".encode())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1024)
def _meaning(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

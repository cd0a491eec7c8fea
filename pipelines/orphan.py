"""A child process that ends when its parent is gone, even while native code hangs: a killed parent cannot end it, and a closed pipe is
only seen by a child that reads."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_LOOK_EVERY_S = 1.0


def child_environment() -> dict[str, str]:
    """This process's environment, in which a child finds the project's packages wherever it is started."""
    root = os.fspath(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def end_with_parent() -> None:
    """Call first in the child. A thread, not the kernel's signal at the parent's death: that one comes when the parent's thread ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()

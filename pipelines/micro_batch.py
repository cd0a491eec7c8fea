"""The number of frames that an extractor gives to its network at once: halved where memory runs out, grown back later.

An extractor takes part by having a field `batch_frames` that it reads at every call. Its rows may not depend on it.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

_GROW_AFTER = 8  # clips in a row that went well
# Matched by name: torch may not be installed where this runs.
_OUT_OF_MEMORY = {"MemoryError", "OutOfMemoryError"}
_IN_WORDS = ("failed to allocate memory", "insufficient memory", "out of memory")  # onnxruntime, OpenCV, CUDA: their types do not say it


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, of the machine or of the GPU."""
    if _OUT_OF_MEMORY & {kind.__name__ for kind in type(error).__mro__}:
        return True
    foreign = type(error).__module__.partition(".")[0] in ("onnxruntime", "cv2", "torch") or type(error) is RuntimeError
    return foreign and any(words in str(error).lower() for words in _IN_WORDS)


def own_copy(extractor: Any) -> Any:
    """The extractor, or a shallow copy of one whose batch may change: the driver's stays as it was."""
    return copy.copy(extractor) if hasattr(extractor, "batch_frames") else extractor


class MicroBatch:
    """Batch size of one loaded extractor; it does nothing for an extractor that has none."""

    def __init__(self, extractor: Any) -> None:
        self._extractor = extractor
        self._full = int(getattr(extractor, "batch_frames", 1))
        self._good = 0

    @property
    def frames(self) -> int:
        """Frames per batch now; 1 where the extractor has no batches."""
        return int(getattr(self._extractor, "batch_frames", 1))

    def shrink(self) -> bool:
        """Halve it; False where it is 1 already. Frees what the GPU's allocator keeps."""
        _empty_gpu_cache()
        self._good = 0
        if self.frames <= 1:
            return False
        self._set(self.frames // 2)
        return True

    def went_well(self) -> None:
        """Count a clip; after some in a row, try twice the size again."""
        if self.frames >= self._full:
            return
        self._good += 1
        if self._good >= _GROW_AFTER:
            self._good = 0
            self._set(min(self._full, self.frames * 2))

    def _set(self, frames: int) -> None:
        object.__setattr__(self._extractor, "batch_frames", frames)  # extractors are frozen dataclasses; this copy is ours


def _empty_gpu_cache() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Writing the stand-ins' weights and their cards: `python -m pipelines.extractors.standin_weights FOLDER`.

The shipped files are data: scores depend on their bytes. Another machine's linear algebra may give other last digits, so
this is for looking at how they were made, and for a deliberate new version, never part of a normal run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipelines.extractors.lpips import StandinLpips
from pipelines.extractors.standin import STANDIN_FRAMES, STANDIN_WINDOWS, Standin
from pipelines.weights import digest_of

STANDINS: tuple[Standin | StandinLpips, ...] = (STANDIN_FRAMES, STANDIN_WINDOWS, StandinLpips())
_PURPOSE = {"standin_frames": "frame features for FID (64 dimensions), in the place of Inception",
            "standin_windows": "video window features for FVD (32 dimensions), in the place of I3D",
            "standin_lpips": "three feature levels for LPIPS, in the place of VGG16"}  # fmt: skip

_CARD = """# {name}

**What:** {purpose}. A stand-in for the demo: it lets the metric run for real without a download.

**Weights:** random, not trained. 3-wide convolutions without bias, orthogonal initialisation (gain sqrt 2), drawn from a
fixed seed on a CPU by `pipelines/extractors/standin_weights.py`; {count} numbers, float32, safetensors. They were made from
no data at all. Licence: Apache-2.0, as the project.

**Use:** only under protocols whose name says so (`demo_standin`). It ranks coarse damage (blur, noise, frozen motion) and
knows nothing of people. Its numbers compare with nothing outside the table that they stand in.

**sha256** of weights.safetensors: `{digest}`
"""


def write_standin(network: Standin | StandinLpips, folder: Path) -> Path:
    """Write <folder>/<name>/weights.safetensors and README.md from the network's seed; returns the weights' path."""
    from safetensors.torch import save_file

    target = folder / network.name
    target.mkdir(parents=True, exist_ok=True)
    state = network.build().state_dict()
    path, partial = target / "weights.safetensors", target / ".weights.safetensors.part"
    save_file(state, partial)
    partial.chmod(0o644)  # safetensors makes it private
    os.replace(partial, path)
    count = sum(tensor.numel() for tensor in state.values())
    card = _CARD.format(name=network.name, purpose=_PURPOSE[network.name], count=f"{count:,}", digest=digest_of(path))
    (target / "README.md").write_text(card, encoding="utf-8")
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pipelines.extractors.standin_weights FOLDER")
    for standin in STANDINS:
        print(write_standin(standin, Path(sys.argv[1])))

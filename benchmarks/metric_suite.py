"""The whole suite (L1, PSNR, SSIM, LPIPS, FID, FVD) through eval.score, against the peers called one after another, as a user would.

python -m benchmarks.metric_suite [--clips 12] [--frames 65] [--size 256] [--rounds 3]

The peer decodes both clips of every pair once for each metric, and calls torchmetrics (L1), scikit-image (PSNR, SSIM), the LPIPS
network and the window network on them, frame by frame or window by window; clean-fid's function makes FVD's distance. FID is
clean-fid's `compute_fid`, which takes two folders of images: the frames are written as PNG first, as its users must. A second ratio
is against a peer who has written a way around that and hands it frames from memory. LPIPS, FID and FVD use the demo's small stand-in
networks on both sides, so the ratio is that of everything around the networks. Both sides compute these six metrics; ours has
intervals besides, and writes its rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from benchmarks.c5_frechet import by_clean_fid
from benchmarks.c7_pixel_metrics import clip as drawn_clip
from benchmarks.side_by_side import alternate, report
from pipelines.clip import Frames, clip_id_of
from pipelines.lake import Lake
from pipelines.prediction_manifest import PredictionManifest, predicted_clip, sha256_of_file, write_manifest
from pipelines.video import encode_video

DATASET, SPLIT, PROTOCOL = "performers_suite", "test", "demo_standin"
FPS = Fraction(12)
Videos = list[tuple[Path, Path]]  # generated, true


def make_lake(root: Path, clips: int, frames: int, size: int) -> tuple[Lake, str, Videos]:
    """(a lake with true and generated clips, the prediction id, the files)."""
    from eval.predictions import import_predictions

    lake, folder, entries, videos = Lake(root).create(), root / "generated" / "method", [], []
    drawn, rows = drawn_clip(frames, size), []
    for index in range(clips):
        prediction, truth = (np.roll(side, 17 * index, axis=2) for side in drawn)
        path = lake.root / "videos" / DATASET / f"{index:04d}.mp4"
        encode_video(path, truth, FPS, comment=str(index))  # a repeated picture is another clip all the same
        rows.append(clip_row(lake, path, index, frames, size))
        clip_id = rows[-1]["clip_id"]
        encode_video(folder / f"{clip_id}.mp4", prediction, FPS)
        entries.append(predicted_clip(folder / f"{clip_id}.mp4", clip_id=clip_id, frames=frames, reference_frame=0))
        videos.append((folder / f"{clip_id}.mp4", path))
    lake.write("clips", rows)  # one commit, whatever the number of clips
    named = {"method": "method", "variant": "", "seed": 0, "checkpoint_id": "", "sampler": "none", "dataset": DATASET, "split": SPLIT}
    write_manifest(folder, PredictionManifest(**named, clips=tuple(entries)))
    return lake, import_predictions(lake, folder).prediction_id, videos


def clip_row(lake: Lake, path: Path, index: int, frames: int, size: int) -> dict[str, Any]:
    """Row of `clips` of a whole file."""
    sha256 = sha256_of_file(path)
    return {"dataset": DATASET, "clip_id": clip_id_of(sha256, 0, frames), "video_id": f"{index:04d}", "video_sha256": sha256,
            "uri": lake.uri(path), "split": SPLIT, "start_frame": 0, "end_frame": frames, "width": size, "height": size,
            "fps_num": 12, "fps_den": 1, "time_base_num": 1, "time_base_den": 12288, "status": "ok"}  # fmt: skip


def by_us(lake: Lake, prediction_id: str) -> dict[str, float]:
    """Everything computed and written, then the table."""
    from eval.benchmark import benchmark
    from eval.score import score

    done = score(lake, protocol=PROTOCOL, dataset=DATASET, split=SPLIT, prediction_id=prediction_id, ignore_cache=True)
    assert not done.failed, done.failed
    rows = benchmark(lake, protocol=PROTOCOL, dataset=DATASET, split=SPLIT).to_pylist()
    return {row["metric"]: row["value"] for row in rows}


def decode(path: Path) -> Frames:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def pairs_of(videos: Videos) -> Iterator[tuple[Any, Any]]:
    """Frame pairs of every clip after its reference frame, decoded here and now."""
    for generated, true in videos:
        yield from zip(decode(generated)[1:], decode(true)[1:], strict=True)


def l1_of_peer(videos: Videos) -> float:
    import torch
    from torchmetrics.functional import mean_absolute_error

    return float(
        np.mean([mean_absolute_error(torch.from_numpy(p).float(), torch.from_numpy(t).float()) / 255 for p, t in pairs_of(videos)])
    )


def psnr_of_peer(videos: Videos) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    return float(np.mean([peak_signal_noise_ratio(t, p) for p, t in pairs_of(videos)]))


def ssim_of_peer(videos: Videos) -> float:
    from skimage.metrics import structural_similarity

    from eval.metrics.ssim import gray

    return float(np.mean([structural_similarity(gray(p), gray(t)) for p, t in pairs_of(videos)]))


def lpips_of_peer(videos: Videos) -> float:
    from eval.protocols import protocol_named
    from pipelines.extractors.metric_networks import pair_network

    distance = pair_network("standin_lpips").load("cpu", protocol_named(PROTOCOL).lpips_range)
    return float(np.mean([distance(p[None], t[None])[0] for p, t in pairs_of(videos)]))


def fid_of_peer(videos: Videos) -> float:
    """`cleanfid.fid.compute_fid` of two folders, with the demo's network and its size of input."""
    import torch
    from cleanfid.fid import compute_fid
    from cleanfid.resize import make_resizer

    from pipelines.extractors.standin import STANDIN_FRAMES

    network, size = STANDIN_FRAMES.load_resized("cpu"), STANDIN_FRAMES.size

    def features(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(network(frame[None] for frame in batch.permute(0, 2, 3, 1).numpy()))

    with tempfile.TemporaryDirectory() as root:
        folders = [_pngs(Path(root) / side, (pair[at] for pair in videos)) for at, side in enumerate(("generated", "true"))]
        resizer = make_resizer("PIL", False, "bicubic", (size, size))
        kept = {"verbose": False, "device": torch.device("cpu"), "num_workers": os.cpu_count()}
        with contextlib.redirect_stdout(io.StringIO()):
            return float(compute_fid(*folders, custom_feat_extractor=features, custom_fn_resize=resizer, **kept))


def _pngs(folder: Path, videos: Iterable[Path]) -> str:
    """A folder with the frames after every video's reference frame."""
    folder.mkdir()
    for number, path in enumerate(videos):
        for index, frame in enumerate(decode(path)[1:]):
            Image.fromarray(frame).save(folder / f"{number:04d}_{index:04d}.png")
    return str(folder)


def fid_from_memory(videos: Videos) -> float:
    """Features of frames that were never files, and clean-fid's function of their statistics."""
    from pipelines.extractors.metric_networks import feature_network

    features = feature_network("standin_frames").load("cpu")
    rows = [np.concatenate([features(decode(pair[side])[1:]) for pair in videos]).astype(np.float64) for side in (0, 1)]
    return by_clean_fid(rows[0], rows[1])


def fvd_of_peer(videos: Videos, window: int = 16) -> float:
    from pipelines.extractors.metric_networks import feature_network

    features, rows = feature_network("standin_windows").load("cpu"), []
    for side in (0, 1):
        clips = [decode(pair[side])[1:] for pair in videos]
        windows = (clip[start : start + window] for clip in clips for start in range(0, len(clip) - window + 1, window))
        rows.append(np.concatenate([features(one[None]) for one in windows]).astype(np.float64))
    return by_clean_fid(rows[0], rows[1])


PEERS: dict[str, tuple[Callable[[Videos], float], float]] = {  # metric -> (peer, how equal in relative terms)
    "l1": (l1_of_peer, 1e-6),
    "psnr": (psnr_of_peer, 1e-9),
    "ssim": (ssim_of_peer, 1e-9),
    "lpips": (lpips_of_peer, 1e-5),
    "fid": (fid_of_peer, 1e-4),  # clean-fid's means are those of float32
    "fvd": (fvd_of_peer, 1e-6),
}


def only_these_metrics() -> Any:
    """Inside, `demo_standin` has the peers' six metrics alone: its own has faces, poses, regions and time besides."""
    from eval import protocols

    whole = protocols.PROTOCOLS[PROTOCOL]
    networks = {role: name for role, name in whole.networks.items() if role in PEERS}
    reduced = replace(whole, metrics=tuple(PEERS), networks=networks)
    return patch.object(protocols, "PROTOCOLS", {**protocols.PROTOCOLS, PROTOCOL: reduced})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=65)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    with only_these_metrics():
        measure(options, root)


def measure(options: argparse.Namespace, root: Path) -> None:
    """Both sides in turns, equality first; prints the ratio."""
    try:
        lake, prediction_id, videos = make_lake(root / "lake", options.clips, options.frames, options.size)
        ours = by_us(lake, prediction_id)
        off = {metric: abs(peer(videos) / ours[metric] - 1) for metric, (peer, _) in PEERS.items()}
        assert all(off[metric] <= tolerance for metric, (_, tolerance) in PEERS.items()), off
        assert abs(fid_from_memory(videos) / ours["fid"] - 1) <= 1e-6
        in_memory = [fid_from_memory if metric == "fid" else peer for metric, (peer, _) in PEERS.items()]
        sides = {
            "ours": lambda: by_us(lake, prediction_id),
            "peers": lambda: [peer(videos) for peer, _ in PEERS.values()],
            "from memory": lambda: [peer(videos) for peer in in_memory],
        }
        seconds = alternate(sides, options.rounds)
        equal = "relative differences " + ", ".join(f"{metric} {value:.1e}" for metric, value in off.items())
        report(
            f"suite {options.clips} clips {options.frames}x{options.size}x{options.size}",
            seconds,
            {"peers": (seconds["peers"] / seconds["ours"], 3.0), "peers from memory": (seconds["from memory"] / seconds["ours"], None)},
            equal,
        )
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()

"""A protocol in words, for the report."""

from __future__ import annotations

from collections.abc import Mapping

from eval.protocol import Protocol

_FILTERS = {"none": "as they are", "pil-bicubic": "Pillow bicubic, antialiased", "pil-bilinear": "Pillow bilinear, antialiased"}
_TAILS = {
    "drop": "frames that fill no window are left out",
    "walk-back": "the last window walks back and overlaps the one before it",
    "drop-last": "the last window is left out",
}


def protocol_facts(protocol: Protocol, digests: Mapping[str, str]) -> list[tuple[str, str]]:
    """(name, text) pairs. digests: metric or role -> digest of its weights."""
    low, high = protocol.lpips_range
    networks = [f"{role.upper()}: {name} ({digests.get(role, '')[:12] or 'not at hand'})" for role, name in protocol.networks.items()]
    return [
        ("Frames", _geometry(protocol)),
        ("Reference frame", f"{protocol.reference} {'from' if protocol.reference == 'excluded' else 'in'} scoring"),
        ("Image metrics and FID see", "all scored frames" if protocol.pixel_frames == "all" else "the first frame of each window"),
        ("Video windows", _windows(protocol)),
        ("L1", "values in 0..1" if protocol.l1 == "unit" else "grey levels, divided by the pixel count twice"),
        ("LPIPS", f"input [{low:g}, {high:g}], against the {'true' if protocol.lpips_against == 'truth' else 'reference'} frame"),
        ("Frechet distances", "float64" if protocol.frechet == "float64" else "float64, means of the video features in float32"),
        ("Networks", "; ".join(networks) or "none"),
        *((name, text) for name, text in protocol.facts.items()),
        ("Known faults kept", "; ".join(protocol.known_faults) or "none"),
        ("Source", protocol.source),
    ]


def _geometry(protocol: Protocol) -> str:
    parts = ["the largest centre square" if protocol.crop == "center_square" else "the whole frame"]
    parts.append("native size" if protocol.short_side is None else f"short side {protocol.short_side} ({_FILTERS[protocol.resize]})")
    if protocol.prediction_resize == "cv2-linear":
        parts.append("generated frames of another size brought to it by OpenCV's linear filter, not antialiased")
    if protocol.pad != "none":
        parts.append("padded to a black square, centred, for the feature networks")
    return ", ".join(parts)


def _windows(protocol: Protocol) -> str:
    overlap = "no overlap" if protocol.stride == protocol.window else f"a new one every {protocol.stride} frames"
    lossy = "" if protocol.codec == "none" else f"; both sides pass through a lossy {protocol.codec} before the video metrics"
    return f"{protocol.window} frames, {overlap}; {_TAILS[protocol.tail]}{lossy}"

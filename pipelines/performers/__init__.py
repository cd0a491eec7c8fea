"""Synthetic people, drawn and animated by code, with exact ground truth for everything that the extractors estimate.

A performer is four independent seeds: identity (body, face, hair, clothes), motion (what they dance), background
(where), and nothing else: the same seeds give the same frames and the same truth.
"""

from __future__ import annotations

from pipelines.performers.camera import FULL_BODY, UPPER_BODY, Framing
from pipelines.performers.dataset import PerformerVideo, write_dataset
from pipelines.performers.performer import Bystander, Performance, perform
from pipelines.performers.truth import Truth, truth_path

__all__ = [
    "FULL_BODY",
    "UPPER_BODY",
    "Bystander",
    "Framing",
    "Performance",
    "PerformerVideo",
    "Truth",
    "perform",
    "truth_path",
    "write_dataset",
]

"""The jobs of the tiny family by name, in an order in which each finds what it learns from or is measured with."""

from __future__ import annotations

from models.tiny.job import TinyJob
from pipelines.errors import UserError


def jobs() -> dict[str, TinyJob]:
    """Every job; imported here, so that a listing does not load what it does not need."""
    from models.tiny import (
        action,
        autoencoder,
        caption,
        clip,
        densepose,
        dwpose,
        face_detector,
        face_recogniser,
        face_recogniser_second,
        flow,
        person_box,
        person_mask,
        rtmpose,
    )

    listed: tuple[TinyJob, ...] = (
        autoencoder.JOB,
        person_box.JOB,
        dwpose.JOB,
        rtmpose.JOB,
        densepose.JOB,
        person_mask.JOB,
        face_detector.JOB,
        face_recogniser.JOB,
        face_recogniser_second.JOB,
        clip.JOB,
        action.JOB,
        caption.JOB,
        flow.JOB,
    )
    return {job.name: job for job in listed}


def job_named(name: str) -> TinyJob:
    """Raises UserError, which lists the names."""
    known = jobs()
    if name not in known:
        raise UserError(f"no network {name!r} in the tiny family; there are: {', '.join(known)}")
    return known[name]

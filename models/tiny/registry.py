"""The jobs of the tiny family by name, in an order in which each finds what it learns from or is measured with."""

from __future__ import annotations

from models.tiny.job import TinyJob
from pipelines.errors import UserError


def jobs() -> dict[str, TinyJob]:
    """Every job; imported here, so that a listing does not load what it does not need."""
    from models.tiny import (
        action,
        autoencoder,
        base_unet,
        caption,
        clip,
        controlnet,
        densepose,
        dwpose,
        face_detector,
        face_recogniser,
        face_recogniser_second,
        flow,
        i3d,
        inception,
        ip_adapter,
        motion_module,
        person_box,
        person_mask,
        resnet3d,
        rtmpose,
        svd_unet,
        svd_vae,
        vgg,
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
        inception.JOB,
        vgg.JOB,
        i3d.JOB,
        resnet3d.JOB,
        base_unet.JOB,
        motion_module.JOB,
        controlnet.JOB,
        ip_adapter.JOB,
        svd_vae.JOB,
        svd_unet.JOB,
    )
    return {job.name: job for job in listed}


def job_named(name: str) -> TinyJob:
    """Raises UserError, which lists the names."""
    known = jobs()
    if name not in known:
        raise UserError(f"no network {name!r} in the tiny family; there are: {', '.join(known)}")
    return known[name]

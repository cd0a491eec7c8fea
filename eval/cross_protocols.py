"""The protocols of clips that another person drives: what an ordinary one measures without the true clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from eval.protocol import Protocol

_METRICS = ("csim", "csim_second", "clip_i", "pose_error", "frame_consistency", "warping_error", "flicker_own")
_TRUTH_ROLES = ("lpips", "fid", "fid_vid", "fvd")

CROSS_OF: Mapping[str, str] = MappingProxyType({"demo": "cross_identity_demo", "demo_standin": "cross_identity_demo"})
"""Protocol of a data set's own clips -> that of its clips driven by others, where it is not `cross_identity`."""


def cross_protocol_of(protocol: str) -> str:
    """The name of the cross-identity protocol that belongs to one of a data set's own clips."""
    return CROSS_OF.get(protocol, "cross_identity")


def cross_identity(standard: Protocol) -> Protocol:
    """`standard` without ground truth."""
    return replace(
        standard,
        name="cross_identity",
        summary="One person moved by another, without ground truth: identity and look against the reference, pose against the retargeted "
        "driving pose, change from frame to frame. Native aspect at short side 512; all frames are scored.",
        networks={role: name for role, name in standard.networks.items() if role not in _TRUTH_ROLES},
        reference="scored",
        metrics=_METRICS,
        driven_by="cross",
        facts={"Ground truth": "none: the reference's person never made the driving clip's motion"},
        source="our recommendation (docs/protocols.md); CSIM: StableAnimator, section 4; networks as `standard`",
    )


def cross_identity_demo(crossed: Protocol, demo: Protocol) -> Protocol:
    """`cross_identity` with the networks of the demo, at native size."""
    return replace(
        crossed,
        name="cross_identity_demo",
        summary="As `cross_identity` at native size, with the tiny family: compare performers of this table only, with nothing outside.",
        short_side=None,
        resize="none",
        networks={role: name for role, name in demo.networks.items() if role in crossed.networks},
        source="the demo: same arithmetic as `cross_identity`, networks of the tiny family (pipelines/tiny), which learnt from performers",
    )

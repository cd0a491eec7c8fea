"""Every ablation table of the five papers: its rows, as printed, and the variant that is each of them here.

The label of a row is the column `variant` of published_results.csv. A variant is called `<base>-<switch>`: `demo-no_temporal` is the
ablation at the demo's size, `paper-no_temporal` at the paper's. Nothing heavy loads here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipelines.errors import UserError

BASES = ("demo", "paper", "brief")
"""The sizes that every switch is offered at."""
OWN_BASES = MappingProxyType(dict.fromkeys(("animate_anyone", "hfca", "hia", "stable_animator"), "unwarped"))
"""Bases of tables for which the demo itself will not do: its warped reference would show every row what only some may see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationRow:
    """One row of an ablation table. `switch` is "" for the method in full, None for a row that we cannot run."""

    printed: str  # label of the row in published_results.csv
    switch: str | None
    aims: tuple[str, ...] = ()  # ids of the metrics that the part is for, the first one first; it is judged by them
    external: str = ""  # why a row without a switch is not ours

    def variant(self, base: str) -> str | None:
        """The variant at a size; None for a row that is not ours."""
        return None if self.switch is None else "-".join(part for part in (base, self.switch) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """One table. `full`: label of the row that the others are held against."""

    paper: str
    table: str  # number in the paper; "figure_5" where the paper only shows pictures; "sanity": not of the paper
    method: str
    about: str
    rows: tuple[AblationRow, ...]
    full: str

    def __post_init__(self) -> None:
        labels = [row.printed for row in self.rows]
        if self.full not in labels or len(set(labels)) < len(labels):
            raise ValueError(f"{self.paper} {self.table}: labels {labels} must differ and hold {self.full!r}")

    @property
    def name(self) -> str:
        """Of its partition and files: hfca_3."""
        return f"{self.paper}_{self.table}"

    @property
    def base(self) -> str:
        """The demo-sized variant that its rows are variants of, where nobody asks for another."""
        return OWN_BASES.get(self.method, BASES[0])

    @property
    def place(self) -> str:
        """In words: Table 3, Figure 5."""
        return {"sanity": "not of the paper"}.get(
            self.table, self.table.replace("_", " ").title() if "_" in self.table else f"Table {self.table}"
        )

    @property
    def printed(self) -> bool:
        """Whether the paper prints numbers."""
        return self.table.isdecimal()

    def row(self, label: str) -> AblationRow:
        """The row of a label."""
        return next(row for row in self.rows if row.printed == label)


_FIGURE = ("psnr", "lpips")  # what a missing part of the network shows in first
_FACE = ("csim", "csim_second", "psnr_face")
_TIME = ("fvd", "flicker", "warping_error")


def _full(printed: str, switch: str = "") -> AblationRow:
    return AblationRow(printed=printed, switch=switch)


def _without(printed: str, switch: str, *aims: str) -> AblationRow:
    return AblationRow(printed=printed, switch=switch, aims=aims)


def _external(printed: str, tool: str) -> AblationRow:
    return AblationRow(
        printed=printed, switch=None, external=f"{tool} is a program of others; its clips come in as predictions (docs/predictions.md)"
    )


_ANIMATE_ANYONE = (
    Ablation(
        paper="animate_anyone", table="4", method="animate_anyone", about="how the reference image comes in", full="ReferenceNet (Our Design)",
        rows=(
            _without("CLIP Image Encoder Only", "clip_only", *_FIGURE, "csim"),
            _without("Fine-tuning SD and Training ControlNet", "controlnet", *_FIGURE, "csim"),
            _without("Integration of Both", "clip_and_controlnet", *_FIGURE, "csim"),
            _full("ReferenceNet (Our Design)"),
        ),
    ),
    Ablation(
        paper="animate_anyone", table="5", method="animate_anyone", about="what ReferenceNet is made of", full="Our Design (ReferenceNet)",
        rows=(
            _without("Replacing UNet (SD Weights) with ResNet (ImageNet Weights)", "resnet", *_FIGURE, "csim"),
            _without("Replacing Spatial-Attention with Feature Concatenation", "concat", *_FIGURE, "csim"),
            _full("Our Design (ReferenceNet)"),
        ),
    ),
    Ablation(
        paper="animate_anyone", table="6", method="animate_anyone", about="how frames know of each other", full="Two-Stage Training (Our Approach)",
        rows=(
            _without("No Temporal Layer (Concatenating Images Temporally)", "no_temporal", *_TIME),
            _without("No Two-Stage Training", "one_stage", *_FIGURE, *_TIME),
            _full("Two-Stage Training (Our Approach)"),
        ),
    ),
    Ablation(
        paper="animate_anyone", table="sanity", method="animate_anyone", about="whether each part does what it is for", full="full method",
        rows=(
            _without("without reference attention", "clip_only", *_FIGURE, "csim"),
            _without("without pose guider", "no_pose", "pose_error", *_FIGURE),
            _without("without temporal layer", "no_temporal", *_TIME),
            _without("without a second stage (all at once)", "one_stage", *_FIGURE, *_TIME),
            _full("full method"),
        ),
    ),
)  # fmt: skip

_HFCA = (
    Ablation(
        paper="hfca", table="3", method="hfca", about="Identity Preservation Module", full="IPM: w/",
        rows=(_without("IPM: w/o", "no_ipm", *_FACE), _full("IPM: w/")),
    ),
    Ablation(
        paper="hfca", table="4", method="hfca", about="Domain Specific Adaptation Optimization", full="DSAO: w/",
        rows=(_without("DSAO: w/o", "no_dsao", "fvd", *_FIGURE), _full("DSAO: w/")),
    ),
    Ablation(
        paper="hfca", table="5", method="hfca", about="Spatio-temporal Optimization with Detail Enhancement", full="STODE: w/",
        rows=(
            _without("STODE: w/o", "no_stode", *_TIME),
            _without('STODE: temporal modelling only ("0" row)', "temporal_only", "psnr_hands", "lpips_hands", *_TIME),
            _full("STODE: w/"),
        ),
    ),
)  # fmt: skip

_HIA = (
    Ablation(
        paper="hia", table="2", method="hia", about="what is trained", full="full model",
        rows=(
            _without("w/o regional supervision", "no_regional", "psnr_face", "psnr_hands", "csim"),
            _without("fine-tune all spatial modules", "regional_all_spatial", *_FIGURE),
            _without("w/o motion blur condition", "no_blur", "blur_agreement", "psnr_hands"),
            _without("default noise scheduler", "default_schedule", *_FIGURE),
            _full("full model"),
        ),
    ),
    Ablation(
        paper="hia", table="3", method="hia", about="how clips are sampled", full="full (A-cfg+PT+IRN)",
        rows=(
            _without("w/o A-cfg, PT, IRN", "no_inference_tricks", "fvd", *_FIGURE),
            _without("w/o A-cfg", "no_acfg", *_FIGURE),
            _without("w/o PT", "no_prompt_travel", *_TIME),
            _without("w/o IRN", "no_irn", "fvd", *_FIGURE),
            _full("full (A-cfg+PT+IRN)"),
        ),
    ),
)  # fmt: skip

_STABLE_ANIMATOR = (
    Ablation(
        paper="stable_animator", table="2", method="stable_animator", about="what keeps the face", full="Ours",
        rows=(
            _without("w/o Face Masks", "no_face_mask", *_FACE),
            _without("w/o Face Encoder", "no_face_encoder", *_FACE),
            _without("w/o Alignment", "align_add", *_FACE, *_FIGURE),
            _without("w/o Optimization", "no_hjb", *_FACE),
            _full("Ours"),
        ),
    ),
    Ablation(
        paper="stable_animator", table="3", method="stable_animator", about="how a face is enhanced", full="Ours",
        rows=(
            _without("w/o Face", "no_face", *_FACE),
            _without("IP-Adapter", "ip_adapter", *_FACE, *_FIGURE),
            _external("FaceFusion", "FaceFusion"),
            _full("Ours"),
        ),
    ),
    Ablation(
        paper="stable_animator", table="4", method="stable_animator", about="how the two attentions are joined", full="Ours",
        rows=(
            _without("Addition", "align_add", *_FACE, *_FIGURE),
            _without("Norm", "align_norm", *_FACE, *_FIGURE),
            _full("Ours"),
        ),
    ),
    Ablation(
        paper="stable_animator", table="5", method="stable_animator", about="the parts on a Stable Diffusion backbone", full="Magic+FE+ID+Opt",
        rows=(
            _without("Magic+IP", "magic_ip", *_FACE, "fvd"),
            _external("Magic+FaceFusion", "FaceFusion"),
            _without("Magic+Opt", "magic_opt", *_FACE),
            _without("Magic+IP+Opt", "magic_ip_opt", *_FACE, "fvd"),
            _without("Magic+FE+ID", "magic_fe_id", *_FACE),
            _full("Magic+FE+ID+Opt", "magic_fe_id_opt"),
        ),
    ),
)  # fmt: skip

_POSE_ANIMATE = (
    Ablation(
        paper="pose_animate", table="figure_5", method="pose_animate", about="each module", full="Ours",
        rows=(
            _without("w/o PACM", "no_pacm", "pose_error", *_FIGURE),
            _without("w/o DCAM", "no_dcam", "csim", "frame_consistency", "warping_error"),
            _without("w/o MGDM", "no_mgdm", "psnr_background", *_FIGURE),
            _without("w/o PATA", "no_pata", "pose_error", "psnr_background"),
            _full("Ours"),
        ),
    ),
)  # fmt: skip

ABLATIONS: Mapping[str, Ablation] = MappingProxyType(
    {ablation.name: ablation for ablation in (*_ANIMATE_ANYONE, *_HFCA, *_HIA, *_STABLE_ANIMATOR, *_POSE_ANIMATE)}
)


def ablation_named(paper: str, table: str) -> Ablation:
    """A paper's table: "3", "Table 3", "figure 5". Raises UserError that lists what there is."""
    wanted = re.sub(r"\s+", "_", re.sub(r"(?i)^table\s*", "", table.strip()).lower())
    if f"{paper}_{wanted}" in ABLATIONS:
        return ABLATIONS[f"{paper}_{wanted}"]
    there = [ablation.table for ablation in ABLATIONS.values() if ablation.paper == paper]
    if not there:
        raise UserError(
            f"--paper {paper}: no ablation of it is known; there are: {', '.join(dict.fromkeys(a.paper for a in ABLATIONS.values()))}"
        )
    raise UserError(f"--table {table}: the ablations of {paper} are: {', '.join(there)}")


def not_offered(ablation: Ablation, base: str) -> dict[str, str]:
    """Label -> why the row cannot be run: the method or its variant does not exist (yet), or the row is not ours. Loads torch."""
    from models.methods import methods

    known = methods().get(ablation.method)
    said: dict[str, str] = {}
    for row in ablation.rows:
        variant = row.variant(base)
        if variant is None:
            said[row.printed] = row.external
        elif known is None:
            said[row.printed] = f"there is no method {ablation.method} yet"
        elif variant not in known.variants:
            said[row.printed] = f"{ablation.method} has no variant {variant} yet"
    return said


def rows_here(paper: str, table: str) -> dict[tuple[str, str], str]:
    """(method, variant) -> label of the row of the paper's table that it is, at every size; empty for a table that is no ablation."""
    name = f"{paper}_{re.sub(r'(?i)^table ', '', table)}"
    ablation = ABLATIONS.get(name)
    if ablation is None:
        return {}
    return {
        (ablation.method, variant): row.printed
        for base in (*BASES, ablation.base)
        for row in ablation.rows
        if (variant := row.variant(base)) is not None
    }

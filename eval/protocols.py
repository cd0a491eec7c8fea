"""PROTOCOLS: every protocol that exists, ours and the literature's, and the names that documents use for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from eval.cross_protocols import cross_identity, cross_identity_demo
from eval.protocol import Protocol
from pipelines.errors import UserError

_FRAMES = ("l1", "psnr", "psnr_overflow", "ssim", "lpips", "fid", "fvd")
_REGIONS = tuple(f"{metric}_{region}" for region in ("face", "hands", "background") for metric in ("l1", "psnr", "ssim", "lpips"))
_TIME = ("flicker", "flicker_background", "flicker_still", "hand_sharpness", "blur_agreement")
_PEOPLE = ("csim", "csim_second", "clip_i", "frame_consistency", "warping_error", "pose_error")

STANDARD = Protocol(
    name="standard",
    summary="Native aspect at short side 512, corrected PSNR, LPIPS (VGG) in [-1, 1], clean-fid FID, FVD of "
    "non-overlapping 16-frame windows, reference frame excluded.",
    short_side=512,
    crop="none",
    resize="pil-bicubic",
    window=16,
    stride=16,
    networks={
        "lpips": "lpips_vgg",
        "fid": "inception",
        "fvd": "i3d",
        "face": "arcface",
        "face_second": "mobilefacenet",
        "clip": "clip_l14",
        "consistency": "clip_l14",
        "flow": "raft_large",
        "pose": "dwpose_keypoints",
    },
    lpips_range=(-1.0, 1.0),
    reference="excluded",
    known_faults=(),
    metrics=(*_FRAMES, *_PEOPLE, *_REGIONS, *_TIME),
    source="our recommendation (docs/protocols.md); FID: Parmar et al. 2022; LPIPS: Zhang et al. 2018; FVD: "
    "Unterthiner et al. 2018, network of Skorokhodov et al. 2022",
)

_STANDINS = (
    "FID, FVD and LPIPS come from small stand-in networks with random weights: compare them inside this table only, with nothing outside."
)

_STANDIN_NETWORKS = {"lpips": "standin_lpips", "fid": "standin_frames", "fvd": "standin_windows"}

DEMO_STANDIN = Protocol(
    name="demo_standin",
    summary=f"Native size, reference frame excluded. {_STANDINS}",
    short_side=None,
    crop="none",
    resize="none",
    window=16,
    stride=16,
    networks={**_STANDIN_NETWORKS, "face": "csim_tiny", "face_second": "csim_tiny_second", "pose": "dwpose_keypoints_tiny"},
    lpips_range=(-1.0, 1.0),
    reference="excluded",
    known_faults=(),
    standin=True,
    metrics=(*_FRAMES, "csim", "csim_second", "pose_error", *_REGIONS, *_TIME),
    source="the demo: same arithmetic as `standard`, networks from pipelines/tiny/standin_*; faces and poses by the tiny family's networks",
)

DEMO = replace(
    DEMO_STANDIN,
    name="demo",
    summary="Native size, reference frame excluded. All networks are small ones trained on performers: compare performers of this table "
    "only, with nothing outside.",
    networks={
        "lpips": "lpips_tiny",
        "fid": "inception_tiny",
        "fid_vid": "resnet3d_tiny",
        "fvd": "i3d_tiny",
        "face": "csim_tiny",
        "face_second": "csim_tiny_second",
        "clip": "clip_tiny",
        "consistency": "clip_tiny",
        "flow": "raft_tiny",
        "pose": "dwpose_keypoints_tiny",
    },
    standin=False,
    metrics=(*_FRAMES, "fid_vid", *_PEOPLE, *_REGIONS, *_TIME),
    source="the demo: same arithmetic as `standard`, networks of the tiny family (pipelines/tiny), which learnt from performers",
)

STANDIN_128 = replace(
    DEMO_STANDIN,
    name="standin_128",
    summary=f"Native aspect at short side 128, reference frame excluded. {_STANDINS}",
    short_side=128,
    resize="pil-bicubic",
    networks=_STANDIN_NETWORKS,  # the tiny family's networks know performers alone
    metrics=(*_FRAMES, *_REGIONS, *_TIME),
    source="`demo_standin` for footage that is larger than what a demo-size method generates",
)

STANDIN_128_SQUARE = replace(
    STANDIN_128,
    name="standin_128_square",
    summary=f"Centre square at 128x128, reference frame excluded. {_STANDINS}",
    crop="center_square",
    source="`demo_standin` for a method that generates the centre square of larger footage",
)

_LPIPS_RANGE_FAULT = "LPIPS is fed values in [0, 1], the network expects [-1, 1]"
_L1_FAULT = "L1 is divided by the number of pixels twice, so it depends on the resolution"

# DisCo's public code since September 2023 (Wang et al., CVPR 2024), which MagicAnimate and most later papers call.
DISCO = Protocol(
    name="disco",
    summary="DisCo's code: centre square at 256x256, 16-frame windows with stride 1, LPIPS (VGG) fed [0, 1], pytorch-fid, "
    "all frames scored.",
    short_side=256,
    crop="center_square",
    resize="pil-bilinear",
    prediction_resize="cv2-linear",
    window=16,
    stride=1,
    networks={"lpips": "lpips_vgg", "fid": "inception_pytorch_fid", "fid_vid": "resnet3d_50", "fvd": "i3d_400", "face": "arcface"},
    lpips_range=(0.0, 1.0),
    l1="over-pixels",
    frechet="float32-means",
    reference="scored",  # nothing in its loader takes the first frame out
    known_faults=(
        _L1_FAULT,
        _LPIPS_RANGE_FAULT,
        "PSNR (overflow) wraps in 8 bits; the papers before April 2024 print it as PSNR",
        "windows overlap by 15 frames",
        "the reference frame is scored",
        "FID resizes without antialiasing",
        "the true frames of the published sets are decoded JPEG copies; ours are the video's own",
    ),
    metrics=("l1", "psnr", "psnr_overflow", "ssim", "lpips", "fid", "fid_vid", "fvd", "csim"),
    source="Wang et al., DisCo, CVPR 2024, public code (sliding frames); psnr as corrected in April 2024, psnr_overflow as before; "
    "csim as StableAnimator says",
)

_DISCO_VIDEO = {role: DISCO.networks[role] for role in ("fid_vid", "fvd")}
_DISCO_MAIN = {role: DISCO.networks[role] for role in ("lpips", "fid", "fid_vid", "fvd")}

# The first release: windows become GIFs. Pillow's 256-colour median cut is the loss; ffmpeg reads the same frames back.
DISCO_GIF = replace(
    DISCO,
    name="disco_gif",
    summary="DisCo's first release: as `disco`, but 16-frame windows pass through GIFs of 256 colours.",
    codec="gif",
    networks=_DISCO_VIDEO,
    tail="drop-last",
    known_faults=(
        *(fault for fault in DISCO.known_faults if not fault.startswith(("L1", "LPIPS", "PSNR", "FID"))),  # only video metrics
        "256 colours per frame",
        "the last window of every video is left out",
    ),
    metrics=("fid_vid", "fvd"),
    source="Wang et al., DisCo, first public release (GIF path). A GIF that ffmpeg expands to a constant rate gives other numbers: not reproduced",
)

DISCO_TM = replace(
    DISCO,
    name="disco_tm",
    summary="DisCo with its temporal module: disjoint 16-frame clips through lossy mp4; image metrics see the first frame of each only.",
    stride=16,
    tail="walk-back",
    pixel_frames="first-of-window",
    codec="mp4",
    networks=_DISCO_MAIN,
    known_faults=(
        *(fault for fault in DISCO.known_faults if "overlap" not in fault),
        "the last clip overlaps the one before it",
        "image metrics see one frame in sixteen, the reference among them",
        "video metrics see x264 at 3 frames/s, constant rate factor 25",
    ),
    metrics=("l1", "psnr", "psnr_overflow", "ssim", "lpips", "fid", "fid_vid", "fvd"),
    source="Wang et al., DisCo, public code (gen_eval_tm)",
)

HIA_NATIVE = replace(
    DISCO,
    name="hia_native",
    summary="HIA: DisCo's code at native size; frames are padded to a black square, centred, for FID, FID-VID and FVD.",
    short_side=None,
    crop="none",
    resize="none",
    pad="square-black",
    networks=_DISCO_MAIN,
    known_faults=(
        _L1_FAULT,
        _LPIPS_RANGE_FAULT,
        "windows overlap by 15 frames",
        "the reference frame is scored",
        "FID resizes without antialiasing",
    ),
    metrics=("l1", "psnr", "ssim", "lpips", "fid", "fid_vid", "fvd"),
    source="HIA, appendix A.2. Colour and place of the padding and the size for LPIPS are not stated: black, centred, native",
)

STYLEGAN_V_FVD = replace(
    STANDARD,
    name="stylegan_v_fvd",
    summary="FVD with StyleGAN-V's I3D as MCVD and common_metrics call it: shorter side to 224, centre crop, 16-frame windows.",
    short_side=None,
    resize="none",
    networks={"fvd": "i3d_center_crop"},
    reference="scored",
    known_faults=("frames are resized without antialiasing", "only the centre square is seen"),
    metrics=("fvd",),
    source="Skorokhodov et al. 2022 (network); preprocessing of MCVD (Voleti et al. 2022). Windows do not overlap; the code scores whole videos or random clips",
)

POSE_ANIMATE_WILD = replace(
    STANDARD,
    name="pose_animate_wild",
    summary="PoseAnimate, Table 1: 512x512; LPIPS and CLIP-I against the source image, frame consistency, warping error.",
    crop="center_square",
    networks={"lpips": "lpips_vgg", "clip": "clip_l14", "consistency": "clip_b32", "flow": "raft_evalcrafter"},
    lpips_against="reference",
    known_faults=("the flow network of the warping error is fed 0..1 where it expects 0..255 (EvalCrafter's code)",),
    metrics=("lpips", "clip_i", "frame_consistency", "warping_error"),
    source="PoseAnimate, section 4. CLIP model, LPIPS network and the 50 pairs are not stated: ViT-L/14, ViT-B/32, VGG in [-1, 1]",
)

# The set is 384x384 as MRAA's code makes it, so nothing is resized there. Deviation: frames of another size go through Pillow's
# antialiased bilinear instead of scikit-image's resize with a Gaussian before it.
MRAA_TED = Protocol(
    name="mraa_ted",
    summary="MRAA on TED-talks: 384x384, L1 of values in 0..1, key points and identity by pose-evaluation's networks.",
    short_side=384,
    crop="center_square",
    resize="pil-bilinear",
    window=16,
    stride=16,
    networks={"akd_pose": "rtpose_vgg_single", "person_reid": "reid_resnet50"},
    lpips_range=(-1.0, 1.0),
    reference="scored",
    known_faults=(
        "AKD averages |dx| and |dy|, it is no Euclidean distance",
        "with several persons the last one decoded overwrites the joints",
        "the input of the identity network is divided by 255 twice",
        "the identity network runs in training mode: its batch norm sees one frame",
    ),
    metrics=("l1", "akd", "mkr", "aed"),
    source="Siarohin et al., MRAA, CVPR 2021 and their pose-evaluation code",
)

CROSS_IDENTITY = cross_identity(STANDARD)
CROSS_IDENTITY_DEMO = cross_identity_demo(CROSS_IDENTITY, DEMO)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        p.name: p
        for p in (
            STANDARD,
            DEMO,
            DEMO_STANDIN,
            STANDIN_128,
            STANDIN_128_SQUARE,
            DISCO,
            DISCO_GIF,
            DISCO_TM,
            HIA_NATIVE,
            STYLEGAN_V_FVD,
            POSE_ANIMATE_WILD,
            MRAA_TED,
            CROSS_IDENTITY,
            CROSS_IDENTITY_DEMO,
        )
    }
)

# Names that documents and papers use -> ids of the code; an id here need not have a protocol or method yet.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "DISCO-FRAMES": "disco",
        "DISCO-GIF": "disco_gif",
        "DISCO-TM": "disco_tm",
        "NATIVE": "hia_native",
        "SGV-FVD": "stylegan_v_fvd",
        "psnr_disco_bug": "psnr_overflow",
        "FID-VID": "fid_vid",
        "FID-FVD": "fid_vid",
        "FC": "frame_consistency",
        "WE": "warping_error",
        "TikTok": "tiktok",
        "TED": "ted_talks",
        "TED-talks": "ted_talks",
        "Ted-Talk": "ted_talks",
        "UBC": "ubc_fashion",
        "tiktok-public-335-340": "tiktok_335_340",
        "new10val": "tiktok_disco10",
        "TPS": "tpsmm",
        "PSMM": "tpsmm",
        "MA": "magic_animate",
        "IP+CtrlN": "ip_controlnet",
        "SD-2V": "sd_2v",
    }
)


def id_of(name: str) -> str:
    """The id behind a name used in documents; an id is its own."""
    return ALIASES.get(name, name)


def protocol_named(name: str) -> Protocol:
    """Look a protocol up by id or alias. Raises UserError that lists them."""
    found = PROTOCOLS.get(id_of(name))
    if found is None:
        known = "; ".join(f"{p.name}: {p.summary}" for p in PROTOCOLS.values())
        raise UserError(f"unknown protocol {name!r}; there are: {known}")
    return found

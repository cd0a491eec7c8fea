"""LAYOUTS: one value per method. Each says in `source` which files of which public repository it was read from.

Sizes and settings are the published ones; a file's own size is what is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from eval.converters.layout import Layout, Panels
from pipelines.errors import UserError

_STRIP = "{clip}{video}.png"  # the data set's file name with its ending, then .png
_UNFAIR = "Driven by the true frames themselves, so it knows more than a method that sees poses; `uses_truth_sharpness` is set."
_GRID_OF_KEYPOINTS = "The mp4 or gif beside png/ is a grid with key points drawn into it; it is not read."

FOMM = Layout(
    method="fomm",
    title="FOMM",
    kind="strip",
    pattern=f"reconstruction/png/{_STRIP}",
    source="AliaksandrSiarohin/first-order-model 69c8901: reconstruction.py, frames_dataset.py (10506af), config/fashion-256.yaml",
    sizes=((256, 256),),
    sees_truth=True,
    notes=(_UNFAIR, _GRID_OF_KEYPOINTS, "Reconstruction uses absolute key points of every driving frame, frame 0 being the source."),
)
MRAA = Layout(
    method="mraa",
    title="MRAA",
    kind="strip",
    pattern=f"reconstruction/png/{_STRIP}",
    source="snap-research/articulated-animation 66979be: reconstruction.py, animate.py, config/ted384.yaml",
    sizes=((384, 384), (256, 256)),
    sees_truth=True,
    notes=(_UNFAIR, _GRID_OF_KEYPOINTS, "Mode `animate` writes only grids; use mode `reconstruction`, or `demo.py` and a plain video."),
)
TPSMM = Layout(
    method="tpsmm",
    title="TPSMM",
    kind="strip",
    pattern=f"reconstruction/png/{_STRIP}",
    source="yoyo-nb/Thin-Plate-Spline-Motion-Model 0ec14f6: reconstruction.py, config/ted-384.yaml",
    sizes=((384, 384), (256, 256)),
    sees_truth=True,
    notes=(_UNFAIR, _GRID_OF_KEYPOINTS, "Papers also call it TPS or PSMM."),
)
BDMM = Layout(
    method="bdmm",
    title="BDMM",
    kind="frames",
    pattern="eval_{any}/{clip}{video}/frames/frame_{frame}.png",
    source="rocketappslab/BDMM 96181b0: test.py, model/dance_model.py (test, results_dir), data/dance_dataset.py, SMPLDataset/process_fashion.py",
    sizes=((256, 256),),
    notes=(
        "Images keep the driving frames' names (frame_00001.png on). The last batch is filled with the last frame, which overwrites itself.",
        "The first 20 frames of the clip may all serve as references; published code takes what test_list.csv names.",
    ),
)
DREAMPOSE = Layout(
    method="dreampose",
    title="DreamPose",
    kind="frames",
    pattern="{clip}{video}/pred_#{frame}.png",
    source="johannakarras/DreamPose 155b83b: test.py; README.md (465e95a)",
    sizes=((512, 640),),
    steps=100,
    cfg="s1 8, s2 3",
    notes=(
        "One run per clip: name its --output_dir after the clip. Numbers are those of the DensePose files, without leading zeros.",
        "Fine-tuned for each subject; without that it is the row DreamPose* of the papers: score it under another --variant.",
    ),
)
DISCO = Layout(
    method="disco",
    title="DisCo",
    kind="frames",
    pattern="pred_gs{any}_scale-cond{any}-ref{any}/{word}_{clip}_{frame}{image}.png",
    source="Wangt-CN/DisCo c4fa48a: config/ref_attn_clip_combine_controlnet/net.py (inner_collect_fn), gen_eval.sh, "
    "tool/video/gen_gifs_for_fvd.py, tsv_example/create_custom_dataset_tsvs.py",
    sizes=((256, 256),),
    steps=50,
    cfg=1.5,
    removed=r"[./]",
    notes=(
        "One folder holds the frames of all clips; a file is the key of the TSV (Custom_CLIP_000001.png) without its dots.",
        "Several such folders (one per guidance) are several predictions: point --from at one. Frames are made independently.",
        "The temporal module writes windows of 16 into subfolders; they are not read.",
    ),
)
MAGIC_ANIMATE = Layout(
    method="magic_animate",
    title="MagicAnimate",
    kind="video",
    pattern="videos/{any}_{clip}.mp4",
    source="magic-research/magic-animate 4a61106: magicanimate/pipelines/animation.py, magicanimate/utils/util.py (43aa60e), "
    "configs/prompts/animation.yaml (1d23ca7)",
    rounded_to=16,
    sizes=((512, 512),),
    fps="25, whatever the driving video has",
    steps=25,
    cfg=7.5,
    notes=(
        "The driving DensePose video must have the clip's name; its reference comes before that in the file's name.",
        "Driving is filled to a multiple of 16 with its last frame; the public code cuts that off, other wrappers may not: then it is cut here.",
        "grid.mp4 in the folder of the same name is resized by its writer and not read.",
    ),
)
CHAMP = Layout(
    method="champ",
    title="Champ",
    kind="video",
    pattern="{clip}-{time}/animation.mp4",
    source="fudan-generative-vision/champ 02e5533: inference.py, utils/video_utils.py (07f5005), configs/inference/inference.yaml",
    sizes=((512, 512),),
    fps="24, whatever the driving video has",
    steps=20,
    cfg=3.5,
    notes=(
        "One run per clip: exp_name is the clip's name. frame_range of the shipped configuration takes 100 frames only; remove it.",
        "Generated at 512x512 and resized to the reference image; the writer rounds sides to multiples of 16.",
    ),
)
UNIANIMATE = Layout(
    method="unianimate",
    title="UniAnimate",
    kind="video",
    pattern="rank_{number}_{number}_{number}_seed_{seed}_image_randomref_dwpose_{clip}_{number}x{number}.mp4",
    source="ali-vilab/UniAnimate 643c963: tools/inferences/inference_unianimate_entrance.py and ..._long_entrance.py, utils/video_op.py, "
    "configs/UniAnimate_infer.yaml",
    panels=Panels(columns=3, index=2),
    strides=(2,),
    sizes=((512, 768), (768, 1216)),
    fps="8, whatever the driving video has",
    steps=30,
    cfg=2.5,
    cut_at_dot=True,
    removed=r"[^\w\s]",
    notes=(
        "The name is the reference image's, so call that after the clip. Reference, pose and result stand side by side; the third is taken.",
        "test_list_path gives an interval of 2 by default: set 1, and max_frames to the clip's length.",
        "Runs whose first frame is the reference (`image_local_image_dwpose`) are another variant and not read.",
    ),
)
MIMIC_MOTION = Layout(
    method="mimic_motion",
    title="MimicMotion",
    kind="video",
    pattern="{clip}_{stamp}.mp4",
    source="Tencent/MimicMotion 1c91d48: inference.py, mimicmotion/utils/utils.py; configs/test.yaml (08f5e7c), "
    "mimicmotion/dwpose/preprocess.py (0af6dab)",
    leading=(0, 1),
    strides=(2, 4),
    sizes=((576, 1024), (1024, 576)),
    fit="covered",
    fps="15, whatever the driving video has",
    steps=25,
    cfg=2.0,
    cut_at_dot=True,
    notes=(
        "The reference's own pose is driven first; the public code drops that frame, other wrappers may not: then it is dropped here.",
        "sample_stride is 2 (4 from 48 fps on): set 1, and give it a video of at most 47 fps, or every second frame has no answer.",
    ),
)
CONTROLNEXT = Layout(
    method="controlnext",
    title="ControlNeXt",
    kind="video",
    pattern="{clip}/output.mp4",
    source="dvlab-research/ControlNeXt 05dcae6: ControlNeXt-SVD-v2/run_controlnext.py, ControlNeXt-SVD-v2/utils/pre_process.py",
    leading=(1,),
    strides=(2, 4),
    sizes=((576, 1024), (512, 768)),
    fit="covered",
    fps="the driving video's over sample_stride, rounded down",
    steps=25,
    cfg=3.0,
    notes=(
        "One run per clip: name its --output_dir after the clip. test_1.mp4 beside it (pose and result) is not read.",
        "The reference's own pose is driven first and, other than in MimicMotion, its frame stays in the file: it is dropped here.",
        "Set --sample_stride 1 and --max_frame_num to the clip's length and one more.",
    ),
)
ANIMATE_DIFF = Layout(
    method="animate_diff",
    title="AnimateDiff",
    kind="video",
    pattern="sample/{number}-{any}.gif",
    source="guoyww/AnimateDiff 0361f58: scripts/animate.py, animatediff/utils/util.py (069dd94)",
    sizes=((512, 512),),
    fit="none",
    fps="8",
    notes=(
        "Files are called after the prompt, so --names must say which clip each answers. 256 colours a frame.",
        "Sees neither clip nor pose: frame k answers nothing, and only FID, FVD and looks compare. 16 frames.",
    ),
)
GEN_2 = Layout(
    method="gen_2",
    title="Gen-2",
    kind="video",
    pattern="{clip}.mp4",
    source="Runway's Gen-2 is a closed service: downloads are called as the user likes; nothing of this could be checked",
    fit="none",
    verified=False,
    notes=("Sees neither clip nor pose: frame k answers nothing, and only FID, FVD and looks compare.",),
)
MOORE_ANIMATE_ANYONE = Layout(
    method="moore_animate_anyone",
    title="AnimateAnyone (Moore)",
    kind="video",
    pattern="{number}--seed_{seed}-{number}x{number}/{any}_{clip}_{number}x{number}_{cfg}_{number}.mp4",
    source="MooreThreads/Moore-AnimateAnyone 7ccc423: scripts/pose2vid.py, src/utils/util.py",
    panels=Panels(columns=3, index=2, border=2),
    sizes=((512, 784),),
    fps="the pose video's",
    steps=30,
    cfg=3.5,
    removed="_kps",
    notes=(
        "Reference, pose and result stand side by side with 2 pixels between; the third is taken.",
        "-L is 24 frames by default: give the clip's length. The guidance in the file's name is cut to a whole number.",
    ),
)
STABLE_ANIMATOR = Layout(
    method="stable_animator",
    title="StableAnimator (public code)",
    kind="frames",
    pattern="{clip}/animated_images/frame_{frame}.png",
    source="Francis-Rings/StableAnimator 020e7f2: inference_basic.py, command_basic_infer.sh, DWPose/skeleton_extraction.py",
    sizes=((512, 512), (576, 1024)),
    steps=25,
    cfg=3.0,
    notes=(
        "One run per clip: name its --output_dir after the clip. animation_video.gif beside it has 256 colours and is not read.",
        "It stands in the table as StableAnimator, variant `imported`, beside the one that is trained here.",
    ),
)

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        layout.method: layout
        for layout in (
            MRAA, TPSMM, FOMM, BDMM, DREAMPOSE, DISCO, MAGIC_ANIMATE, CHAMP, UNIANIMATE, MIMIC_MOTION, CONTROLNEXT, ANIMATE_DIFF, GEN_2,
            MOORE_ANIMATE_ANYONE, STABLE_ANIMATOR,
        )
    }
)  # fmt: skip


def layout_named(method: str) -> Layout:
    """The layout of a method. Raises UserError that lists them."""
    if method not in LAYOUTS:
        raise UserError(
            f"--method {method}: no converter; there are: {', '.join(LAYOUTS)}. Clips that lie as docs/predictions.md says need none"
        )
    return LAYOUTS[method]

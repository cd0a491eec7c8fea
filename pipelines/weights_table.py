"""Every pretrained file, by role. Digests only where somebody states them; the others are locked on first use."""

from __future__ import annotations

from dataclasses import dataclass

_CARD = "see the model card"


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFile:
    """One pretrained file, or one folder of files of a repository (`file` ends with a slash in the table)."""

    role: str
    source: str  # Hugging Face repository, or the address of the file
    file: str  # path in the repository, or the name to save it under
    licence: str
    sha256: str | None = None  # stated by its publisher or a mirror
    non_commercial: bool = False  # needs ROTOSCOPE_ACCEPT_TERMS
    is_folder: bool = False
    note: str = ""
    shipped: bool = False  # part of this package, with the version of the code

    @property
    def is_url(self) -> bool:
        """Not on Hugging Face: fetched by hand."""
        return "://" in self.source


def _hub(role: str, repository: str, file: str, licence: str = _CARD, *, sha256: str | None = None, note: str = "") -> WeightFile:
    folder = file.endswith("/")
    return WeightFile(role=role, source=repository, file=file.rstrip("/"), licence=licence, sha256=sha256, is_folder=folder, note=note)


def _url(
    role: str,
    address: str,
    file: str,
    licence: str,
    *,
    sha256: str | None = None,
    non_commercial: bool = False,
    note: str = "",
) -> WeightFile:
    return WeightFile(role=role, source=address, file=file, licence=licence, sha256=sha256, non_commercial=non_commercial, note=note)


def _tiny(name: str, file: str = "") -> WeightFile:
    """A file (or the folder) of the tiny family: pipelines/tiny/<name>/<file>."""
    place = f"{name}/{file}" if file else name
    return WeightFile(
        role=f"{name}_tiny", source="shipped with Rotoscope", file=place, licence="Apache-2.0", is_folder=not file, shipped=True
    )


_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_SD15_LICENCE = "CreativeML Open RAIL-M"
_VARIATIONS = "lambdalabs/sd-image-variations-diffusers"
_SVD = "stabilityai/stable-video-diffusion-img2vid-xt"
_SVD_LICENCE = "Stability AI licence, gated"
_ANTELOPE = "https://github.com/deepinsight/insightface/releases/download/v0.7/antelopev2.zip"
_INSIGHTFACE = "insightface model licence, non-commercial research"
_PACK = "unpack the zip; it may unpack one folder too deep"

_ALL = [
    # generators
    _hub("sd15_unet", _SD15, "unet/", _SD15_LICENCE),
    _hub("sd15_text_encoder", _SD15, "text_encoder/", _SD15_LICENCE),
    _hub("sd15_tokenizer", _SD15, "tokenizer/", _SD15_LICENCE),
    _hub("sd_vae", "stabilityai/sd-vae-ft-mse", "diffusion_pytorch_model.safetensors", "MIT"),
    _hub("clip_image_encoder", _VARIATIONS, "image_encoder/", _SD15_LICENCE, note="CLIP ViT-L/14, 768-d"),
    _hub("sd_variations_unet", _VARIATIONS, "unet/", _SD15_LICENCE),
    _hub("motion_module_v2", "guoyww/animatediff", "mm_sd_v15_v2.ckpt", note="a pickle: opened with weights_only=True"),
    _hub("motion_adapter_v2", "guoyww/animatediff-motion-adapter-v1-5-2", "diffusion_pytorch_model.safetensors"),
    _hub(
        "openpose_controlnet",
        "lllyasviel/control_v11p_sd15_openpose",
        "diffusion_pytorch_model.safetensors",
        "OpenRAIL",
    ),
    _hub("svd_unet", _SVD, "unet/", _SVD_LICENCE),
    _hub("svd_vae", _SVD, "vae/", _SVD_LICENCE),
    _hub("svd_image_encoder", _SVD, "image_encoder/", _SVD_LICENCE),
    _hub("ip_adapter", "h94/IP-Adapter", "models/ip-adapter_sd15.safetensors", "Apache-2.0"),
    _hub("ip_adapter_plus", "h94/IP-Adapter", "models/ip-adapter-plus_sd15.bin", "Apache-2.0"),
    _hub("ip_adapter_image_encoder", "h94/IP-Adapter", "models/image_encoder/", "Apache-2.0"),
    _hub("animate_anyone_denoising_unet", "patrolli/AnimateAnyone", "denoising_unet.pth"),
    _hub("animate_anyone_reference_unet", "patrolli/AnimateAnyone", "reference_unet.pth"),
    _hub("animate_anyone_pose_guider", "patrolli/AnimateAnyone", "pose_guider.pth"),
    _hub("animate_anyone_motion_module", "patrolli/AnimateAnyone", "motion_module.pth"),
    _hub("stable_animator", "FrancisRing/StableAnimator", "Animation/"),
    _hub("magic_animate_temporal_attention", "zcxu-eric/MagicAnimate", "temporal_attention/temporal_attention.ckpt"),
    _hub("champ", "fudan-generative-ai/champ", "champ/"),
    _hub("mimic_motion", "tencent/MimicMotion", "MimicMotion_1-1.pth"),
    _hub("controlnext_unet", "Pbihao/ControlNeXt", "ControlNeXt-SVD/v2/unet.bin"),
    _hub("controlnext_controlnet", "Pbihao/ControlNeXt", "ControlNeXt-SVD/v2/controlnet.bin"),
    # extractors
    _hub("person_box", "yzd-v/DWPose", "yolox_l.onnx"),
    _hub("dwpose", "yzd-v/DWPose", "dw-ll_ucoco_384.onnx"),
    _url(
        "person_box_small",
        "https://raw.githubusercontent.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample/main/model/yolox_nano.onnx",
        "yolox_nano.onnx",
        "Apache-2.0 (repository)",
        note="YOLOX-nano, input 416, for CPUs",
    ),
    _url(
        "rtmpose",
        "https://download.openmmlab.com/mmpose/v1/projects/rtmw/onnx_sdk/rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.zip",
        "rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.onnx",
        "Apache-2.0 (mmpose)",
        note="unpack the zip and save its end2end.onnx under the name above",
    ),
    _hub("densepose", "LayerNorm/DensePose-TorchScript-with-hf-space", "densepose_r50_fpn_dl.torchscript"),
    _url(
        "densepose_symmetry",
        "https://dl.fbaipublicfiles.com/densepose/densepose_uv_data.tar.gz",
        "UV_symmetry_transforms.mat",
        "Creative Commons, non-commercial (DensePose)",
        non_commercial=True,
        note="U and V of a point's mirror image, for stages that flip real people's DensePose; in the archive's folder UV_data",
    ),
    _hub("person_mask", "facebook/sam2.1-hiera-large", "model.safetensors", "Apache-2.0"),
    _url("face_detector", _ANTELOPE, "scrfd_10g_bnkps.onnx", _INSIGHTFACE, non_commercial=True, note=_PACK),
    _url(
        "face_detector_retinaface",
        "https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth",
        "detection_Resnet50_Final.pth",
        "MIT (facexlib)",
        note="RetinaFace with ResNet-50; a pickle: opened with weights_only=True",
    ),
    _url(
        "face_detector_small",
        "https://raw.githubusercontent.com/foamliu/MobileFaceNet/master/retinaface/weights/mobilenet0.25_Final.pth",
        "retinaface_mobilenet0.25.pth",
        "Apache-2.0 (repository)",
        note="RetinaFace with MobileNet 0.25, for CPUs; a pickle: opened with weights_only=True",
    ),
    _url("face_recogniser", _ANTELOPE, "glintr100.onnx", _INSIGHTFACE, non_commercial=True, note=_PACK),
    _url(
        "face_recogniser_small",
        "https://raw.githubusercontent.com/foamliu/MobileFaceNet/master/weights/MobileFaceNet.onnx",
        "mobilefacenet.onnx",
        "Apache-2.0 (repository)",
        note="trained on a research-only set of faces; 128-d, another scale than ArcFace R100",
    ),
    _hub("caption", "Salesforce/blip-image-captioning-base", "model.safetensors", "BSD-3-Clause"),
    _url(
        "action",
        "https://download.openmmlab.com/mmaction/recognition/c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb/"
        "c3d_sports1m_16x1x1_45e_ucf101_rgb_20201021-26655025.pth",
        "c3d_sports1m_16x1x1_45e_ucf101_rgb_20201021-26655025.pth",
        "Apache-2.0 (mmaction2)",
        note="C3D, Sports-1M then UCF101; a pickle: opened with weights_only=True",
    ),
    _url(
        "flow",
        "https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        "BSD-3-Clause (torchvision)",
        note="sha256 starts with ff5fadd5; a pickle: opened with weights_only=True",
    ),
    _url(
        "flow_things",
        "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip",
        "raft-things.pth",
        "BSD-3-Clause (repository princeton-vl/RAFT)",
        note="unpack the zip, which puts it into a folder `models`; a pickle: opened with weights_only=True",
    ),
    _hub("clip_large", "openai/clip-vit-large-patch14", "model.safetensors", "MIT"),
    _hub("clip_base", "openai/clip-vit-base-patch32", "model.safetensors", "MIT"),
    # metrics (docs/protocols.md)
    _url(
        "fid_inception_pytorch_fid",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "pt_inception-2015-12-05-6726825d.pth",
        "see pytorch-fid",
        note="sha256 starts with 6726825d",
    ),
    _url(
        "fid_inception_clean_fid",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        "inception-2015-12-05.pt",
        "see NVlabs/stylegan2-ada-pytorch",
        sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    ),
    _url(
        "lpips_vgg16",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "vgg16-397923af.pth",
        "BSD-3-Clause (torchvision)",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    _url(
        "vgg19",
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "vgg19-dcbb9e9d.pth",
        "BSD-3-Clause (torchvision)",
        note="HFCA's style loss; sha256 starts with dcbb9e9d",
    ),
    _url(
        "lpips_alexnet",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "alexnet-owt-7be5be79.pth",
        "BSD-3-Clause (torchvision)",
        note="sha256 starts with 7be5be79",
    ),
    _hub(
        "i3d_kinetics400",
        "liruiw/hma",
        "i3d_pretrained_400.pt",
        note="a Space: fetch by hand",
        sha256="55095f049e706479d48e221adcdb145b2b9dc930ba28b081ed72367ffaa32343",
    ),
    _hub(
        "i3d_torchscript",
        "flateon/FVD-I3D-torchscript",
        "i3d_torchscript.pt",
        sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    ),
    _url(
        "resnet3d_kinetics",
        "https://github.com/yjh0410/YOWOF/releases/download/yowof-weight/resnet-50-kinetics.pth",
        "resnet-50-kinetics.pth",
        "see YOWOF",
        note="provenance uncertain: the name matches what DisCo's authors used",
    ),
    _url(
        "person_reid",
        "https://yadi.sk/d/jAPhvFEFp6qzIw",
        "reid_model.pth",
        "not stated",
        note="the address is a page: fetch by hand, save under this name; a pickle: opened with weights_only=True",
    ),
    _url(
        "akd_pose",
        "https://yadi.sk/d/0L-PgAaGRKgkJA",
        "pose_model.pth",
        "not stated",
        note="the address is a page: fetch by hand, save under this name; a pickle: opened with weights_only=True",
    ),
    # the tiny family (models/tiny trains it)
    _tiny("autoencoder"),
    _tiny("person_box", "model.onnx"),
    _tiny("dwpose", "model.onnx"),
    _tiny("rtmpose", "model.onnx"),
    _tiny("densepose", "model.torchscript"),
    _tiny("person_mask", "model.safetensors"),
    _tiny("face_detector", "model.onnx"),
    _tiny("face_recogniser", "model.onnx"),
    _tiny("face_recogniser_second", "model.onnx"),
    _tiny("clip", "model.safetensors"),
    _tiny("action", "model.safetensors"),
    _tiny("caption", "model.safetensors"),
    _tiny("flow", "model.safetensors"),
    _tiny("inception", "model.torchscript"),
    _tiny("vgg", "model.safetensors"),
    _tiny("i3d", "model.torchscript"),
    _tiny("resnet3d", "model.safetensors"),
    _tiny("base_unet"),
    _tiny("motion_module"),
    _tiny("controlnet"),
    _tiny("ip_adapter", "ip-adapter_tiny.safetensors"),
    _tiny("svd_vae"),
    _tiny("svd_unet"),
]

WEIGHTS: dict[str, WeightFile] = {weight.role: weight for weight in _ALL}

"""AnimateAnyone: reference attention, pose guider and temporal layers, trained in two stages.

Files: config (sizes, steps, ablations), network (what runs), feature_concat and resnet_reference (ablations), stages (what trains), sampling (how
clips are made), method.

Deviations from the paper, each also said where it happens:
- v-prediction with zero terminal SNR, Min-SNR weights and a noise offset instead of plain epsilon prediction (`NoiseConfig(objective="epsilon")` is the paper's);
- the reference latent is the posterior's mean in training as in sampling;
- the pose guider is ControlNet's condition embedding (the paper's four stride-2 layers give /16, latents are /8); variant `paper_k4` keeps its kernels;
- the driving skeleton is retargeted by bone lengths (`retarget_limb`), since the paper gives no recipe; off when the driving person is the reference person;
- the ControlNet, the ResNet and the concatenation of Tables 4 and 5 are named by the paper and not described: what they are here is said in `network`,
  `resnet_reference` and `feature_concat`; one-stage training (Table 6) has the steps of both stages;
- DEMO only: the additions of models/demo_additions.py, named in the manifest, and a fixed projection of the pooled image that stands in for CLIP.
"""

"""AnimateAnyone: reference attention, pose guider and temporal layers, trained in two stages.

Files: config (sizes and steps), network (what runs), stages (what trains), sampling (how clips are made).

Deviations from the paper, each also said where it happens:
- v-prediction with zero terminal SNR, Min-SNR weights and a noise offset instead of plain epsilon prediction (`NoiseConfig(objective="epsilon")` is the paper's);
- the reference latent is the posterior's mean in training as in sampling;
- the pose guider is ControlNet's condition embedding (the paper's four stride-2 layers give /16, latents are /8); variant `paper_k4` keeps its kernels;
- the driving skeleton is retargeted by bone lengths (`retarget_limb`), since the paper gives no recipe; off when the driving person is the reference person;
- DEMO only: `hint` adds a zero-initialised 1x1 convolution of the reference latent to the stem, and `residual` diffuses the difference to the reference
  latent; both learn much faster at this size. `skip_std` leaves to the network what the best linear estimate from the noisy latent does not explain, so that
  a still background is right from the start. `hint_from_stem` (off: slower, where it was tried) lets the hint begin as the stem of a trained base.
  All are named in the manifest. A fixed projection of the pooled image stands in for CLIP.
"""

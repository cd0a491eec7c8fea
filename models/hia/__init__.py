"""HIA (Xu et al. 2024): regional supervision and a motion-blur condition, trained in four stages on a shifted noise schedule.

Files: config (sizes, steps and switches), network (what runs), regional_supervision (Eq. 1, 2), stages (what trains), sampling (Sec. 3.4),
method; shared parts: motion_blur_map (Sec. 3.2), noise (Alg. 1), guidance (Eq. 4),
windows (prompt travelling), pose_controlnet, reference_attention.

There is no public code. Where the paper is silent or cannot be meant as printed, also said where it happens:
- Alg. 1: the first beta is computed like the others; keeping its old value, as printed, multiplies every alpha_bar by 1.0006;
- Eq. 4 as printed leads away from the condition for every positive weight: `usual` is e_u + w (e_c - e_u), the others are switches;
- gamma, the weights of Eq. 1 and 2, w, the rates, the share of static images and of dropped controls are not in the paper;
- the diffusion loss stays in the regional stage; psi_ref comes from the recogniser that judges the generated face;
- the map's values: movement in shares of the frame, sharpness log-scaled by the training set's 99th percentile; it stands behind the pose
  in a ControlNet of six channels, whose new weights are 0 (`blur.mode="overlay"` paints it into the pose instead);
- DEMO only: v-prediction (as the tiny base was trained), the additions of models/demo_additions.py, shared and cooler noise, no initial
  reference noise (there is none where a difference is diffused), and the tiny family in the place of the published weights, which the
  manifest lists. BRIEF trains from scratch with a fixed random recogniser: its pictures and its cosine loss mean nothing.
"""

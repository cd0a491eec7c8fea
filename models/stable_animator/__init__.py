"""StableAnimator (Tu et al. 2025): Stable Video Diffusion that keeps a face, with a PoseNet, face tokens, and faces optimised while sampling.

Files, as the paper has them: pose_net and face_encoder (Fig. 2), id_adapter (Eq. 1 and 2), network (what runs), edm (noise levels and
preconditioning), stages (Eq. 13), face_optimisation (Algorithm 1's inner loop), sampler (Algorithm 1's outer loop), sampling (clips of any length); magic/ has
the other backbone of Table 5.

Deviations from the paper, each also said where it happens:
- the loss weights faces by 1 + M, as the released code does; Eq. 13 read literally gives (1 + M)^2 (`mask_power=2`);
- a frame without a face has M = 0 (`no_face="zeros"`); the released code takes the whole frame for the face;
- zero face tokens (the null condition, and a fresh face encoder) add nothing; Eq. 2 read literally would add the mean of the image branch;
- the reference's own pose is put before the driving ones and taken out again, so that no real frame is the windows' anchor;
- clips are retargeted with one scale for both axes; the released code's scale of x is wrong where the aspects differ;
- Adam's rate shrinks with the number of its steps, the gradient stays inside the face, and three rules stop it (`Hjb`); the presets
  PUBLIC_HJB and PAPER_HJB have none of that;
- the target faces' boxes come from the retargeted landmarks, since a new clip has no frames to detect faces in.
"""

"""PoseAnimate: zero-shot character animation with Stable Diffusion 1.5, the OpenPose ControlNet and a prompt; nothing is trained.

Files: config (settings and switches), pose_alignment (PATA), inversion and frame_embedding (PACM), dual_consistency (DCAM),
mask_decoupling (MGDM), network (what runs), sampling (the order of work), method (the protocol).

Readings of the paper and deviations from it, each also said where it happens:
- PATA is named, not given: one scale from neck to hips, one translation, linear transition poses (`pose_alignment.py`);
- Eq. 6 optimises the conditional embedding, as Sec. 3.2 says; Fig. 2 calls it the unconditional one: `pacm.optimize="uncond"`;
- learning rates and the stop rule are those of null-text inversion, which the paper builds on and is silent about;
- Eq. 9 multiplies keys with masks, which leaves masked keys a logit of 0 and most of the attention: here they get no attention;
  `mgdm.mask="zero"` is the printed equation;
- masks from cross-attention need some steps before they show anybody: for the first fifth the hull of the pose stands in;
- the branches of classifier-free guidance run one after the other, which halves the memory and changes nothing;
- clips of more than 16 frames are made in passes (`models/frame_passes.py`); transition frames are made but not given out,
  so that frame i of the clip is frame i of the driving motion;
- the tiny base predicts v under zero terminal SNR: epsilon is worked out from v, and the noisiest level of all is never visited.
"""

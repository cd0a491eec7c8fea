"""HFCA: High-Fidelity Character Animation (Huang, Xia, Bu; ICCV Workshops). No code of the authors is public.

Files: config (sizes and steps), network (what runs), stages (what trains), sampling (how clips are made); identity_preservation (IPM,
Eq. 1 to 3), clothing_prototypes (Eq. 4) and action_attention (Eq. 5) for DSAO; hand_gaps (Eq. 6) and hand_morphology for STODE, whose
temporal layers are models/downsampling_temporal.py. pose_maps, pose_descriptor and judges serve them.

The paper leaves much open. Where its words and its figure differ, or it gives no number, this is what is done; each is said again where it happens:
- pose maps are skeleton and DensePose, six channels (Sec. 4 extracts both; Eq. 7 calls p key points), added behind the stem as AnimateAnyone does;
- the identity losses look at the decoded one-step x0 of samples with t < 250, in stage 1, weights .1 and .1, and none pulls at the prediction
  with more than a fifth of the diffusion loss's gradient at the same places; lambda of Eq. 1 is 1e-3 on raw embeddings;
- style is compared on the body without face and hands, Gram matrices over the region alone, behind the ReLUs of conv1_2 and conv2_2;
- Eq. 4's gate is one number per reference (from its mean token); f_main is the backbone's feature; W_a = 0 at the start; the twelve categories
  are ours (pipelines/extractors/clothing.py), found zero-shot; a category that no sample has takes no part;
- Eq. 5 has eight heads, a zero-initialised output projection and learned null tokens; where the driving video gives no motion tokens, the
  prototype of the class with the nearest poses does;
- adaptation is a stage of its own (1b), mixed 1:1 with the character videos; UCF101 trains nothing but what Eq. 4 and 5 add, and PoseNet;
- temporal layers normalise their input, have eight heads, and give their result to the skip connection, too;
- sigma of the Gaussian weights is 4 frames, the weights sum to 1, the last window is right-aligned. Variant `paper` fuses frames, as the formula
  has it, with noise shared by absolute frame; `demo` fuses predictions at every step, because frames of windows that know nothing of each other ghost;
- hands are enhanced in the generated frames, last of all; the line of Eq. 6 lies along the gap, for across it nothing can be opened;
- retargeting by bone lengths, DDIM with 25 steps, guidance 3.5, 30,000 / 5,000 / 10,000 steps: ours, the paper names none.

DEMO only: reference hint, residual diffusion, linear skip and v-prediction (models/demo_additions.py), smaller least sizes of faces and hands.
BRIEF only: a random recogniser and style network, and the data set itself in the place of UCF101.
"""

"""SD-2V (the baseline of AnimateAnyone's authors): Stable Diffusion with ControlNet, IP-Adapter and AnimateDiff put together.

Files: config (sizes and steps), stages (what trains), sampling (how clips are made), method; the network is models/prompted_denoiser.py.

The paper says no more than which four parts it joins. Ours ([D]), also said where they happen:
- two settings, to be named with every number: `finetune` trains IP-Adapter and ControlNet, then the motion modules, with AnimateAnyone's steps,
  clips and windows; `off_the_shelf` trains nothing and samples windows of 16 frames, for which the motion modules were made;
- the prompt is empty; what guidance drops is the picture, by the adapter's own null (the projection of no picture), never the pose;
- none of the demo's additions: what reaches the picture is the IP-Adapter alone, as in the paper's table.
"""

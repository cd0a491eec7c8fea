"""IPC (the baseline of HFCA's authors): Stable Diffusion with IP-Adapter, ControlNet and the temporal layer of MagicVideo.

Files: config (sizes and steps), network (what runs), stages (what trains), sampling (how clips are made), method; shared:
models/prompted_denoiser.py (the first three) and models/causal_temporal.py (the fourth).

The paper names the parts and nothing else. Ours ([D]), also said where they happen:
- a causal temporal attention behind every transformer block, an adaptor behind both convolutions of every resnet; both change nothing at the start;
- stage 1 trains IP-Adapter and ControlNet, stage 2 the temporal layers and adaptors, with HFCA's steps, so that the budgets match; `untrained`
  (train="none") leaves the published parts as they are, which without temporal weights means independent frames;
- windows are fused as HFCA fuses them (`windows="uniform"`: equal weights), the prompt is empty, and guidance drops the picture, never the pose.
"""

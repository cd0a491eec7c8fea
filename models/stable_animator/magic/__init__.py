"""Table 5's other backbone: MagicAnimate (Xu et al. 2024) with IP-Adapter, with our Face Encoder and ID Adapter, and with face optimisation.

HIA has MagicAnimate's network (the same first author): appearance encoder, ControlNet, motion modules. Here it is without HIA's own parts:
reference attention in the middle and up blocks, no motion-blur map, the linear schedule not shifted.

Deviations: the ControlNet sees skeletons, not DensePose, like every method here; an image token takes the place of the empty text;
the base UNet trains with the rest, as in HIA, where MagicAnimate keeps it frozen.
"""

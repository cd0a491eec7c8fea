"""The demo's second whole-body keypoint network, narrower than dwpose's and from other random numbers; pipelines.extractors.rtmpose opens it."""

from __future__ import annotations

from functools import partial

from models.tiny import dwpose
from models.tiny.boxed_people import learnt_from
from models.tiny.job import TinyJob
from models.tiny.simcc_network import SimCCConfig
from models.training_loop import LoopConfig

CONFIG = SimCCConfig(widths=(12, 32, 48, 72), head=48)

JOB = TinyJob(
    name="rtmpose",
    title="Second whole-body keypoints of the demo",
    purpose="133 keypoints of the person in a box, 128 x 96 px, as SimCC's maps; HIA reads them beside those of the first network.",
    loop=LoopConfig(steps=3500, learning_rate=2e-3, warmup_steps=20, decay="cosine", pictures=0),
    draw=learnt_from,
    build=partial(dwpose.build, CONFIG),
    loss_of=dwpose.loss_of,
    export=partial(dwpose.export, config=CONFIG),
    measure=dwpose.measure,
)

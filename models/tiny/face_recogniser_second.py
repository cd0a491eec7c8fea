"""The second tiny face recogniser: narrower, 96 numbers, other pictures. Two that agree are worth more than one."""

from __future__ import annotations

from models.tiny.face_crops import many_faces
from models.tiny.face_recogniser import TRAINED_ON, FaceRecogniserNetwork, export, loss_of, measure
from models.tiny.job import TinyJob
from models.training_loop import LoopConfig

JOB = TinyJob(
    name="face_recogniser_second",
    title="Second tiny face recogniser",
    purpose="Tells drawn people apart by their faces in Rotoscope's demo, 96 numbers per face; another network than the first.",
    loop=LoopConfig(steps=2200, learning_rate=3e-3, warmup_steps=50, decay="cosine", weight_decay=5e-3, clip_norm=5.0),
    draw=many_faces,
    build=lambda: FaceRecogniserNetwork(widths=(24, 48, 64), size=96),
    loss_of=lambda network, faces: loss_of(network, faces, salt=1),
    export=export,
    measure=lambda folder, cache: measure(folder, cache, "face_recogniser_second_tiny"),
    trained_on=TRAINED_ON,
)

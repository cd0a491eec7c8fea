"""FID-VID (DisCo; HFCA and HIA also write FID-FVD): Frechet distance of windows in the features of a 3D-ResNet-50 (Hara et al. 2018).

The same windows as FVD, another network.
"""

from __future__ import annotations

from eval.metrics.metric import Metric

FID_VID = Metric(
    id="fid_vid",
    title="FID-VID",
    better="down",
    low=0.0,
    high=float("inf"),
    unit="",
    kind="set",
    digits=2,
    tolerance=1e-3,
    role="fid_vid",
    summary="as FVD, seen by a 3D-ResNet-50",
)

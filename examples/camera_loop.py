"""A camera loop: every frame is scored as it comes, by an export and without torch.

    python examples/camera_loop.py bottle.onnx [CAMERA]

CAMERA is a number, an address (rtsp://...), or a film; 0, the first camera, unless it is given. Ends with the film, or Ctrl-C.
"""

from __future__ import annotations

import sys

import cv2

from unlike.data.input_spec import conform
from unlike.errors import ImageError
from unlike.runtime import load


def watch(folder: str, camera: int | str = 0) -> int:
    """Print a line for each frame that is anomalous; how many frames there were."""
    detector = load(folder)
    film, frames = cv2.VideoCapture(camera), 0
    while True:
        there, frame = film.read()
        if not there:
            return frames
        frames += 1
        colours = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # OpenCV's own order is blue, green, red
        try:
            pixels = conform(colours, detector.spec)[
                None
            ]  # to the detector's size, as images in files are brought to it
        except ImageError as error:
            print(f"frame {frames} {error}")
            continue
        _, scores = detector.see(pixels)
        (verdict,) = detector.decision.judge([str(frames)], scores, [""])
        if verdict.anomalous:
            print(f"frame {frames}: score {verdict.score:.4g}, p = {verdict.p_value:.3g}")


if __name__ == "__main__":
    named = sys.argv[2] if len(sys.argv) > 2 else "0"
    watch(sys.argv[1], int(named) if named.isdecimal() else named)

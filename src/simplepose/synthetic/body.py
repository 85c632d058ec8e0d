"""An articulated body in three dimensions: lengths, postures, forward kinematics and the view.

Body frame: x to the person's own left, y up, z forward; one unit is about the person's height.
View frame: x to the right of the picture, y up, z towards the camera. A person with yaw 0 faces the
camera, so their left hand is on the right of the picture, as in a photo.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

# Degrees. Arms: flexion (forward), abduction (sideways), twist (outward), elbow. Legs: flexion,
# abduction, knee. Then how far the torso leans forward, and how common the posture is.
_SPREAD, _LOWEST, _HIGHEST, *_POSTURES = np.loadtxt(
    """
    # left arm         right arm         left leg      right leg    lean  weight
     10   6  14  11     10   6  14  11     5   3   6     5   3   6     4  0.0  spread
    -50  -8 -85   2    -50  -8 -85   2   -30  -4   0   -30  -4   0   -15  0.0  lowest
    175 172  95 145    175 172  95 145   110  48 135   110  48 135    30  9.0  highest
      0   8   0  14      0   8   0  14     0   4   3     0   4   3     0  3.0  stand
     28   6   0  25    -25   6   0  12   -20   2  14    26   2  10     3  3.0  walk
     42   8 -15  85    -40  12 -10  80   -22   2  65    52   2  60    12  1.5  run
      5 150   0  15      5 150   0  15     0   8   3     0   8   3     0  1.5  cheer
      0  85  80  75      0   8   0  15     0   5   3     0   5   3     0  1.5  wave
    -12  48 -62  92    -12  48 -62  92     0   8   2     0   8   2     0  1.0  hands on hips
      0  92   0   8      0  92   0   8     0  24   3     0  24   3     0  1.0  star
     40  22 -10 125      0  10   0  20     0   4   3    10   5   6     3  1.0  telephone
     10  95   0   6      0  12 -30  55     0   6   3     0   6   3     0  1.0  point
     45  15 -10  45     45  15 -10  45    82  18 108    70  14 100    18  1.0  crouch
    -20  40   0  30     35  30   0  35    62   6  16    -6   4   8    -8  0.8  kick
    """.splitlines(),
    usecols=range(16),
)
# Points of the head in units of its size, in a frame that turns with the head.
_HEAD = {
    name: np.array(place, float)
    for name, *place in map(
        str.split,
        """
        nose           0    -0.14  0.95
        left_eye       0.36  0.12  0.8
        right_eye     -0.36  0.12  0.8
        left_ear       0.88  0    -0.05
        right_ear     -0.88  0    -0.05
        left_mouth     0.2  -0.52  0.75
        right_mouth   -0.2  -0.52  0.75
        chin           0    -0.5   0.1
        skull          0     0.25  0
        hair           0     0.38 -0.2
        crown          0     0.66  0.1
        nape           0    -1.4  -0.6
        left_fringe    0.4   0.72  0.4
        right_fringe  -0.4   0.72  0.4
        """.strip().splitlines(),
    )
}


class Body(NamedTuple):
    """Lengths and half widths in body units, and a factor on the thickness of the limbs."""

    girth: float = 1.1
    torso: float = 0.29
    shoulder: float = 0.112
    hip: float = 0.074
    upper_arm: float = 0.165
    forearm: float = 0.145
    thigh: float = 0.235
    shin: float = 0.225
    head: float = 0.094


def draw_body(rng: Generator) -> Body:
    """A random adult or child."""
    factors = rng.normal(1, [0.08] + [0.04] * 8)
    if rng.random() < 0.18:
        factors[-3:] *= 0.88, 0.88, 1.2
    return Body(*(Body() * factors))


def draw_posture(rng: Generator) -> np.ndarray:
    """(15,) degrees within the limits of the joints: arms 2 x 4, legs 2 x 3, lean."""
    weights = np.array(_POSTURES)[:, -1]
    angles = rng.choice(_POSTURES, p=weights / weights.sum()) + rng.normal(0, _SPREAD)
    angles = np.clip(angles, _LOWEST, _HIGHEST)[:-1]
    mirrored = angles[np.r_[4:8, 0:4, 11:14, 8:11, 14]]
    return mirrored if rng.integers(2) else angles


def rotation(z: float = 0, x: float = 0, y: float = 0) -> np.ndarray:
    """(3, 3) matrix Rz Rx Ry of right-handed rotations in degrees."""
    return Rotation.from_euler("ZXY", (z, x, y), degrees=True).as_matrix()


def pose_body(
    body: Body, angles: np.ndarray, view: np.ndarray, head_turn: np.ndarray
) -> dict[str, np.ndarray]:
    """Forward kinematics, then the view.

    Args:
        body: lengths.
        angles: (15,) degrees, as of `draw_posture`.
        view: (3, 3) rotation from the body frame to the view frame; its z, x and y are the roll in
            the picture, how far the camera looks down, and how far the person is turned.
        head_turn: (3, 3) rotation of the head on the torso.

    Returns:
        Point name -> (3,) in the view frame and body units, feet on y = 0 before the camera's tilt:
        the COCO keypoints and what else a painter needs.
    """
    torso = rotation(x=angles[14])
    head = torso @ head_turn * body.head
    neck = torso @ [0, body.torso + 0.015, 0]
    centre = neck + torso @ [0, 0.028, 0.008] + head @ [0, 0.92, 0.1]
    points = {name: centre + head @ at for name, at in _HEAD.items()}
    points["neck"] = neck
    for name, x, y in (("collar", 0, 1), ("belt", 0, 0.15), ("badge", 0.5, 0.75)):
        points[name] = torso @ [x * body.shoulder, y * body.torso, 0.06]
    for row, (side, sign) in enumerate((("left_", 1), ("right_", -1))):
        flexion, abduction, twist, bend = angles[4 * row : 4 * row + 4]
        arm = torso @ rotation(sign * abduction, -flexion, sign * twist)
        forearm = arm @ rotation(x=-bend)
        shoulder = torso @ [sign * body.shoulder, body.torso - 0.012, 0]
        elbow = shoulder - body.upper_arm * arm[:, 1]
        wrist = elbow - body.forearm * forearm[:, 1]
        flexion, abduction, bend = angles[8 + 3 * row : 11 + 3 * row]
        thigh = rotation(sign * abduction, -flexion)
        shin = thigh @ rotation(x=bend)
        hip = np.array([sign * body.hip, 0, 0])
        knee = hip - body.thigh * thigh[:, 1]
        ankle = knee - body.shin * shin[:, 1]
        limbs = {"shoulder": shoulder, "elbow": elbow, "wrist": wrist}
        limbs |= {"hand": wrist - 0.042 * forearm[:, 1], "hip": hip, "knee": knee}
        limbs |= {"ankle": ankle, "toe": ankle + shin @ [sign * 0.01, -0.028, 0.075]}
        points |= {side + name: point for name, point in limbs.items()}
    ground = min(point[1] for point in points.values())
    return {name: view @ (point - [0, ground, 0]) for name, point in points.items()}

"""An articulated body in three dimensions: proportions, postures within natural joint limits, forward kinematics, the view.

Body frame: x to the person's own left, y up, z forward; one unit is about the person's height. View frame: x to the right of the picture,
y up, z towards the camera, so a person with yaw 0 faces the camera and their left hand is on the right of the picture, as in a photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simplepose.core.schema import COCO_17

POINTS = (*COCO_17.keypoints, "neck", "head", "pelvis", "left_hand", "right_hand", "left_toe", "right_toe", "hair")
"""Rows of `Skeleton.points`: the 17 COCO keypoints first."""
ROW = {name: row for row, name in enumerate(POINTS)}
SIDES = (("left", 1.0), ("right", -1.0))

# Limits in degrees: arms (flexion, abduction, twist, elbow), legs (flexion, abduction, knee).
_ARM_LIMITS = np.array([[-50.0, -8, -85, 2], [175, 172, 95, 145]])
_LEG_LIMITS = np.array([[-30.0, -4, 0], [110, 48, 135]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportions:
    """Lengths and half widths in body units."""

    torso: float = 0.29
    shoulder: float = 0.112
    hip: float = 0.074
    upper_arm: float = 0.165
    forearm: float = 0.145
    thigh: float = 0.235
    shin: float = 0.225
    head: float = 0.094
    girth: float = 1.0
    """Factor on the thickness of torso and limbs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posture:
    """Joint angles in degrees; rows of `arms` and `legs` are left, right."""

    arms: np.ndarray
    """(2, 4): flexion (forward), abduction (sideways), twist (outward), elbow."""
    legs: np.ndarray
    """(2, 3): flexion (forward), abduction (sideways), knee."""
    lean: float = 0.0
    bend: float = 0.0
    """Torso forward and to the left."""
    head_turn: float = 0.0
    head_nod: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Skeleton:
    """A posed body seen by the camera, in body units, standing on y = 0 before the camera's tilt."""

    points: np.ndarray
    """(P, 3) float64 in the view frame, rows `POINTS`."""
    head_to_view: np.ndarray
    """(3, 3) rotation."""
    torso_to_view: np.ndarray
    """(3, 3) rotation."""


# name: (weight, arms (left, right), legs (left, right), lean); the sides are swapped at random.
_FAMILIES: dict[str, tuple[float, tuple, tuple, float]] = {
    "stand": (3.0, ((0, 8, 0, 14), (0, 8, 0, 14)), ((0, 4, 3), (0, 4, 3)), 0),
    "walk": (3.0, ((28, 6, 0, 25), (-25, 6, 0, 12)), ((-20, 2, 14), (26, 2, 10)), 3),
    "run": (1.5, ((42, 8, -15, 85), (-40, 12, -10, 80)), ((-22, 2, 65), (52, 2, 60)), 12),
    "arms_up": (1.5, ((5, 150, 0, 15), (5, 150, 0, 15)), ((0, 8, 3), (0, 8, 3)), 0),
    "wave": (1.5, ((0, 85, 80, 75), (0, 8, 0, 15)), ((0, 5, 3), (0, 5, 3)), 0),
    "hands_on_hips": (1.0, ((-12, 48, -62, 92), (-12, 48, -62, 92)), ((0, 8, 2), (0, 8, 2)), 0),
    "star": (1.0, ((0, 92, 0, 8), (0, 92, 0, 8)), ((0, 24, 3), (0, 24, 3)), 0),
    "reach": (1.2, ((85, 20, 0, 12), (5, 10, 0, 20)), ((0, 5, 4), (10, 3, 6)), 4),
    "call": (1.0, ((40, 22, -10, 125), (0, 10, 0, 20)), ((0, 4, 3), (0, 5, 3)), 0),
    "point": (1.0, ((10, 95, 0, 6), (0, 12, -30, 55)), ((0, 6, 3), (0, 6, 3)), 0),
    "sit": (1.5, ((30, 12, -15, 50), (28, 12, -15, 55)), ((86, 9, 86), (86, 9, 86)), 3),
    "crouch": (0.8, ((45, 15, -10, 45), (45, 15, -10, 45)), ((82, 18, 108), (70, 14, 100)), 18),
    "kick": (0.8, ((-20, 40, 0, 30), (35, 30, 0, 35)), ((62, 6, 16), (-6, 4, 8)), -8),
    "lunge": (0.8, ((20, 25, 0, 45), (-10, 25, 0, 40)), ((55, 6, 55), (-25, 4, 20)), 6),
}


def draw_proportions(rng: np.random.Generator) -> Proportions:
    """A random adult or child."""
    child = rng.random() < 0.18
    legs, arms, width = rng.normal(1, 0.04, 3)
    girth = float(np.clip(rng.normal(1.1, 0.1), 0.9, 1.35))
    return Proportions(
        torso=0.29 * rng.normal(1, 0.03),
        shoulder=0.112 * width * (0.92 if child else 1.0),
        hip=0.074 * (1 + 0.5 * (girth - 1)) * rng.normal(1, 0.05),
        upper_arm=0.165 * arms,
        forearm=0.145 * arms,
        thigh=0.235 * legs * (0.88 if child else 1.0),
        shin=0.225 * legs * (0.88 if child else 1.0),
        head=(0.112 if child else 0.094) * rng.normal(1, 0.04),
        girth=girth,
    )


def draw_posture(rng: np.random.Generator) -> tuple[str, Posture]:
    """A random posture: the name of its family, and the angles, clipped to the limits."""
    names = list(_FAMILIES)
    weights = np.array([_FAMILIES[name][0] for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    _, arms, legs, lean = _FAMILIES[name]
    swap = rng.random() < 0.5
    arm_angles = np.array(arms[::-1] if swap else arms, float) + rng.normal(0, 1, (2, 4)) * [10, 6, 14, 11]
    leg_angles = np.array(legs[::-1] if swap else legs, float) + rng.normal(0, 1, (2, 3)) * [5, 3, 6]
    return name, Posture(
        arms=np.clip(arm_angles, *_ARM_LIMITS),
        legs=np.clip(leg_angles, *_LEG_LIMITS),
        lean=lean + rng.normal(0, 4),
        bend=rng.normal(0, 4),
        head_turn=float(np.clip(rng.normal(0, 16), -50, 50)),
        head_nod=float(np.clip(rng.normal(3, 7), -20, 25)),
    )


def walking(phase: float, stride: float = 1.0) -> Posture:
    """One moment of a walk.

    Args:
        phase: radians; 2 pi is two steps.
        stride: factor on the swing; 0 stands still.
    """
    swing = np.sin(phase + np.array([0, np.pi]))
    lift = np.maximum(0, np.cos(phase + np.array([0, np.pi])))
    arms = np.stack([-24 * stride * swing, np.full(2, 7.0), np.zeros(2), 18 - 12 * stride * swing], 1)
    legs = np.stack([24 * stride * swing, np.full(2, 2.0), 4 + stride * (8 + 40 * lift)], 1)
    return Posture(arms=np.clip(arms, *_ARM_LIMITS), legs=np.clip(legs, *_LEG_LIMITS), lean=3.0)


def rotation(axis: str, degrees: float) -> np.ndarray:
    """(3, 3) right-handed rotation about one axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array(
        {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[axis]
    )


def skeleton(body: Proportions, posture: Posture, *, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Skeleton:
    """Forward kinematics, then the view.

    Args:
        body: lengths.
        posture: angles.
        yaw: degrees the person is turned; 0 faces the camera, 180 shows the back, +90 looks to the right of the picture.
        pitch: degrees the camera looks down.
        roll: degrees the whole figure is turned in the picture.
    """
    points = np.zeros((len(POINTS), 3))
    torso = rotation("z", -posture.bend) @ rotation("x", posture.lean)
    head = torso @ rotation("y", posture.head_turn) @ rotation("x", posture.head_nod)
    neck = torso @ [0, body.torso + 0.015, 0]
    centre = neck + torso @ [0, 0.028, 0.008] + head @ [0, body.head * 0.92, 0.1 * body.head]
    points[ROW["neck"]], points[ROW["head"]] = neck, centre
    for name, place in _FACE.items():
        points[ROW[name]] = centre + head @ (np.array(place) * HEAD_RADII * body.head)
    points[ROW["hair"]] = centre + head @ (np.array([0, -1.5, -0.75]) * body.head)
    for row, (side, sign) in enumerate(SIDES):
        flexion, abduction, twist, elbow = posture.arms[row]
        arm = torso @ rotation("z", sign * abduction) @ rotation("x", -flexion) @ rotation("y", sign * twist)
        fore = arm @ rotation("x", -elbow)
        shoulder = torso @ [sign * body.shoulder, body.torso - 0.012 + 0.03 * max(0.0, abduction - 60) / 90, 0]
        points[ROW[f"{side}_shoulder"]] = shoulder
        points[ROW[f"{side}_elbow"]] = shoulder + arm @ [0, -body.upper_arm, 0]
        points[ROW[f"{side}_wrist"]] = points[ROW[f"{side}_elbow"]] + fore @ [0, -body.forearm, 0]
        points[ROW[f"{side}_hand"]] = points[ROW[f"{side}_wrist"]] + fore @ [0, -0.042, 0.004]
        flexion, abduction, knee = posture.legs[row]
        leg = rotation("z", sign * abduction) @ rotation("x", -flexion)
        shin = leg @ rotation("x", knee)
        points[ROW[f"{side}_hip"]] = [sign * body.hip, 0, 0]
        points[ROW[f"{side}_knee"]] = points[ROW[f"{side}_hip"]] + leg @ [0, -body.thigh, 0]
        points[ROW[f"{side}_ankle"]] = points[ROW[f"{side}_knee"]] + shin @ [0, -body.shin, 0]
        points[ROW[f"{side}_toe"]] = points[ROW[f"{side}_ankle"]] + shin @ rotation("y", sign * 8) @ [0, -0.028, 0.075]
    points[:, 1] -= points[:, 1].min()
    view = rotation("z", roll) @ rotation("x", pitch) @ rotation("y", yaw)
    return Skeleton(points=points @ view.T, head_to_view=view @ head, torso_to_view=view @ torso)


HEAD_RADII = np.array([0.8, 1.08, 0.94])
"""Half axes of the head in units of its size: left, up, front."""
_FACE = {
    "nose": (0.0, -0.12, 1.08),
    "left_eye": (0.37, 0.14, 0.915),
    "right_eye": (-0.37, 0.14, 0.915),
    "left_ear": (1.0, 0.02, -0.06),
    "right_ear": (-1.0, 0.02, -0.06),
}
"""Face points on the unit sphere that the head's ellipsoid is stretched from."""

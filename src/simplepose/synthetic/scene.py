"""One drawn picture of several people, and what an annotator would write down about each of them.

Everything is painted with one shape, the convex hull of circles: a limb has two, a torso four, an
eye one. The canvas remembers who painted each pixel last, so visibility is exact.

Body frame: x to the person's own left, y up, z forward; one unit is about the person's height.
View frame: x to the right of the picture, y up, z towards the camera. A person with yaw 0 faces the
camera, so their left hand is on the right of the picture, as in a photo.
"""

from __future__ import annotations

import colorsys
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from simplepose.core.boxes import iou
from simplepose.core.schema import COCO_17

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


Row = dict[str, Any]
"""An entry of a COCO file."""
STRIDE = 64
"""Subject i, from 0, paints as owner STRIDE * (i + 1) + part."""
THING = -1
"""Owner of the pixels of what stands in the way."""
# Pixels by which OpenCV's anti-aliased filling reaches over the outline it is given.
_SPILL = 0.6
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_RING = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


class Cloth(NamedTuple):
    """Two colours, (3,) RGB, that alternate along and across what they cover."""

    first: Any
    second: Any
    wave: Any = (0, 0)
    """Radians a body unit along and across; (0, 0) is one colour."""


def draw_colour(rng: Generator) -> np.ndarray:
    """(3,) RGB, from dark and muted to light and vivid."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.beta(2, 1.8), rng.uniform(0.2, 1))
    return 255 * np.array(rgb, np.float32)


def draw_cloth(rng: Generator, striped: float = 0.6) -> Cloth:
    """A random cloth; `striped` is the chance of hoops, stripes or diagonals."""
    direction = rng.choice(_DIRECTIONS, p=(1 - striped, *[striped / 3] * 3))
    return Cloth(draw_colour(rng), draw_colour(rng), direction * rng.uniform(60, 180))


_DIRECTIONS = np.array([(0, 0), (1, 0), (0, 1), (0.7, 0.7)])


class Canvas:
    """A picture that is painted back to front.

    Args:
        image: (H, W, 3) float32 RGB in 0..255.
        light: (3,) unit vector towards the light: right, down, to the camera.
    """

    def __init__(self, image: np.ndarray, light: np.ndarray) -> None:
        self.image, self.light = image, light
        # Who painted the pixel last; 0 is the background.
        self.owner: np.ndarray = np.zeros(image.shape[:2], np.int32)

    def paint(
        self, centres: Any, radii: Any, cloth: Cloth, owner: int = 0, scale: float = 1
    ) -> None:
        """Paints the convex hull of circles, lit like a cylinder.

        Its axis runs from the middle of the first half of the circles to that of the second.

        Args:
            centres: (M, 2) pixels, M = 1 or even; may lie outside the picture.
            radii: (M,) pixels.
            cloth: colours.
            owner: who paints.
            scale: pixels of a body unit, for the cloth's pattern.
        """
        circles = np.asarray(centres)[:, None] + (np.reshape(radii, (-1, 1, 1)) - _SPILL) * _RING
        hull = cv2.convexHull(circles.reshape(-1, 2).astype(np.float32))[:, 0]
        low = np.maximum(hull.min(0).astype(int) - 1, 0)
        high = np.minimum(hull.max(0).astype(int) + 3, self.owner.shape[::-1])
        if (low >= high).any():
            return
        mask = np.zeros((high - low)[::-1], np.uint8)
        cv2.fillConvexPoly(mask, ((hull - low) * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        half = (len(circles) + 1) // 2
        start, end = circles[:half].mean((0, 1)), circles[-half:].mean((0, 1))
        # A single circle has an axis too.
        axis = end - start + (0, 1e-3)
        down = axis / np.hypot(*axis)
        right = np.array([-down[1], down[0]])
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        y, x = np.ogrid[window]
        dx, dy = (x - start[0]).astype(np.float32), (y - start[1]).astype(np.float32)
        along, across = dx * down[0] + dy * down[1], dx * right[0] + dy * right[1]
        tilt = np.clip(0.9 * across / np.abs((hull - start) @ right).max(), -0.99, 0.99)
        light = tilt * (right @ self.light[:2]) + np.sqrt(1 - tilt * tilt) * self.light[2]
        stripe = np.cos((along * cloth.wave[0] + across * cloth.wave[1]) / np.float32(scale))
        mix = np.clip(0.5 + 2 * stripe, 0, 1)[..., None]
        colour = cloth.first + mix * (cloth.second - cloth.first)
        colour *= 0.5 + 0.6 * np.maximum(light, 0)[..., None]
        self.image[window] += (mask / np.float32(255))[..., None] * (colour - self.image[window])
        self.owner[window][mask > 127] = owner

    def develop(self, rng: Generator) -> np.ndarray:
        """(H, W, 3) uint8 RGB with the exposure, the softness and the grain of a camera."""
        image = cv2.GaussianBlur(self.image, (3, 3), rng.uniform(0.1, 0.8)) * rng.uniform(0.85, 1.1)
        grain = rng.standard_normal((*image.shape[:2], 1), np.float32) * rng.uniform(0, 5)
        return np.clip(image + grain + 0.5, 0, 255).astype(np.uint8)


def draw_background(rng: Generator, size_wh: np.ndarray) -> Canvas:
    """A wall and a floor with gradients, blotches and clutter, some of it like limbs and heads."""
    width, height = size_wh.tolist()
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    wall, floor = (0.35 * draw_colour(rng) + 0.65 * rng.uniform(60, 225) for _ in range(2))
    image = np.where(
        ramp < rng.uniform(0.45, 0.8), wall * (1.1 - 0.2 * ramp), floor * (0.6 + 0.4 * ramp)
    )
    light = rng.uniform((-0.6, -0.6, 0.8), (0.6, -0.2, 0.8))
    canvas = Canvas(np.repeat(image, width, 1), light / np.linalg.norm(light))
    for _ in range(rng.poisson(7)):
        paint_thing(canvas, rng, rng.uniform(0, size_wh), height * rng.uniform(0.4, 1.4), 0)
    grid = rng.normal(0, 6, (9, 12, 3)).astype(np.float32)
    blotches = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas.image = cv2.GaussianBlur(canvas.image, (0, 0), rng.uniform(0.5, 2)) + blotches
    return canvas


def paint_thing(
    canvas: Canvas, rng: Generator, foot_xy: Any, scale: float, owner: int = THING
) -> None:
    """A crate, a ball, a stick or a post at (2,) `foot_xy`, beside people of `scale` pixels."""
    corners = scale * rng.uniform(0.06, 0.26, 2) * [(-1, -2), (1, -2), (-1, 0), (1, 0)]
    kind = 0 if rng.random() < 0.4 else 1 + rng.integers(3)
    circles = (corners, corners[:1], corners[1:3], corners[::2] * (1, 3))[kind]
    radius = scale * rng.uniform(0.015, 0.06) if kind else 2
    canvas.paint(foot_xy + circles, [radius] * len(circles), draw_cloth(rng), owner, scale)


class _Shape(NamedTuple):
    """A part of a person is the hull of circles at some points."""

    part: str
    radii: np.ndarray
    """In body units, or in units of the head's size."""
    cloth: str
    nearer: float
    """How much nearer than the mean of its points it is, in body units."""
    reach: str
    """Which fraction of the way to the second half of the points it covers: a key of `Look`."""
    points: list[str]


def _shapes(table: str) -> list[_Shape]:
    """Reads a table; a row with * stands for two, left and right."""
    shapes = []
    for line in table.strip().splitlines():
        for row in dict.fromkeys(line.replace("*", side) for side in ("left", "right")):
            part, radii, cloth, nearer, reach, names = row.split()
            points, sizes = names.split(","), np.array(radii.split(","), float)
            sizes = np.repeat(sizes, len(points) // len(sizes))
            shapes.append(_Shape(part, sizes, cloth, float(nearer), reach, points))
    return shapes


_LIMBS = _shapes("""
    *_arm      .036,.029  skin      .03    all     *_shoulder,*_elbow
    *_arm      .039,.031  shirt     .031   sleeve  *_shoulder,*_elbow
    *_forearm  .028,.020  skin      .045   all     *_elbow,*_wrist
    *_forearm  .030,.022  shirt     .046   cuff    *_elbow,*_wrist
    *_hand     .020,.024  skin      .05    all     *_wrist,*_hand
    *_thigh    .060,.043  skin      0      all     *_hip,*_knee
    *_thigh    .064,.047  trousers  .001   leg     *_hip,*_knee
    *_shin     .042,.027  skin      -.005  all     *_knee,*_ankle
    *_shin     .045,.030  trousers  -.004  hem     *_knee,*_ankle
    *_foot     .028,.025  shoes     .01    all     *_ankle,*_toe
    torso      .058       trousers  .015   all     left_hip,right_hip
    torso      .044,.058  shirt     .02    waist   left_shoulder,right_shoulder,left_hip,right_hip
    skirt      .058,.075  trousers  .06    skirt   left_hip,right_hip,left_knee,right_knee
    torso      .007       dark      0      all     collar,belt
    torso      .020       shoes     0      all     badge
    head       .034       skin      -.02   all     neck,chin
""")
_HEADS = _shapes("""
    head       .82,.50    skin      0      all     skull,chin
    head       .07        lips      0      all     left_mouth,right_mouth
    nose       .15        lips      0      all     nose
    *_ear      .22        skin      0      all     *_ear
    *_eye      .21        white     .01    all     *_eye
    *_eye      .12        dark      .011   all     *_eye
    hair       .87        hair      0      all     hair
    hair       .40        hair      .01    all     left_fringe,right_fringe
    hair       .50        hair      .02    all     crown
    hair       .84,.50    hair      -.03   long    hair,nape
""")
PARTS = {name: row for row, name in enumerate(dict.fromkeys(s.part for s in _LIMBS + _HEADS))}
"""Part of a person -> its number."""


class Look(NamedTuple):
    """What does not change about a person from one picture to the next."""

    body: Body
    cloths: dict[str, Cloth]
    reach: dict[str, float]
    """How far clothes reach, as fractions of the limb; 0 is not at all, 1 is the whole of it."""


def draw_look(rng: Generator) -> Look:
    """A random person."""
    skin = rng.uniform(0.4, 1) ** np.array([0.7, 1, 1.2]) * (245, 200, 165)
    brown = rng.uniform(0.1, 0.7) ** np.array([0.8, 1, 1.2]) * (190, 140, 90)
    hair = brown if rng.random() < 0.7 else draw_colour(rng)
    sleeve, leg = rng.choice([0, 0.55, 0.75, 1.4, 1.95]), rng.choice([0.6, 0.9, 1.95, 1.95])
    plain = {"skin": skin, "hair": hair, "lips": skin * (0.8, 0.65, 0.65)}
    plain |= {"shoes": draw_colour(rng), "white": np.full(3, 240), "dark": np.full(3, 25)}
    cloths = {name: Cloth(colour, colour) for name, colour in plain.items()}
    cloths |= {"shirt": draw_cloth(rng), "trousers": draw_cloth(rng, 0.25)}
    skirt, long_hair = 0.6 * (rng.random() < 0.15), float(rng.random() < 0.4)
    reach = {"all": 1, "waist": 0.88, "skirt": skirt, "long": long_hair}
    reach |= {"sleeve": sleeve, "cuff": sleeve - 1, "leg": leg, "hem": leg - 1}
    return Look(draw_body(rng), cloths, reach)


class Figure(NamedTuple):
    """A posed person in the picture."""

    look: Look
    points: dict[str, np.ndarray]
    """From `pose_body`."""
    foot_xy: np.ndarray
    """(2,) pixel of the ground below the body."""
    scale: float
    """Pixels of a body unit."""

    def place(self, points: Any) -> np.ndarray:
        """(N, 3) body units of the view frame to (N, 2) pixels."""
        return self.foot_xy + self.scale * np.asarray(points)[:, :2] * [1, -1]


def paint_person(canvas: Canvas, person: Figure, index: int) -> None:
    """Paints person `index`, from 0: a shadow, then the parts, the far ones first."""
    look, scale = person.look, person.scale
    height, width = canvas.owner.shape
    y, x = np.ogrid[:height, :width]
    distance = np.hypot((x - person.foot_xy[0]) / 0.26, (y - person.foot_xy[1]) / 0.07) / scale
    canvas.image *= (1 - 0.45 * np.clip(1 - distance**2, 0, 1).astype(np.float32))[..., None]
    jobs = []
    for shapes, factor in ((_LIMBS, look.body.girth), (_HEADS, look.body.head)):
        for shape in shapes:
            reach = min(look.reach[shape.reach], 1)
            if reach > 0:
                joints = np.array([person.points[name] for name in shape.points])
                depth = joints[:, 2].mean() + shape.nearer
                end = joints[(len(joints) + 1) // 2 :]
                end += (1 - reach) * (joints[: len(end)] - end)
                jobs.append((depth, shape, person.place(joints), factor * scale * shape.radii))
    for _, shape, centres, radii in sorted(jobs, key=lambda job: job[0]):
        owner = STRIDE * (index + 1) + PARTS[shape.part]
        canvas.paint(centres, radii, look.cloths[shape.cloth], owner, scale)


def annotate_person(canvas: Canvas, person: Figure, index: int) -> Row | None:
    """`annotate` for a person that `paint_person` painted as `index`."""
    middle = 0.5 * (person.points["left_shoulder"] + person.points["right_hip"])[2]
    shown = []
    for name in COCO_17.keypoints:
        parts = {shape.part for shape in _LIMBS + _HEADS if name in shape.points}
        # The far shoulder and hip of somebody seen from the side are behind the torso.
        if person.points[name][2] < middle - 0.06:
            parts -= {"torso", "skirt"}
        shown.append({PARTS[part] for part in parts})
    keypoints = person.place([person.points[name] for name in COCO_17.keypoints])
    return annotate(canvas, keypoints, shown, index)


def annotate(
    canvas: Canvas, keypoints: np.ndarray, shown: list[set[int]], index: int
) -> Row | None:
    """COCO's fields of subject `index` of a finished canvas.

    None where nothing of it is seen, or all its keypoints are outside the picture.

    Visibility 2: the pixel was painted last by a part that shows the keypoint. 1: hidden by a
    thing, somebody else or the own body. 0, 0, 0: outside the picture.

    Args:
        canvas: the finished picture.
        keypoints: (K, 2) pixels.
        shown: the parts that show each keypoint.
        index: number of the subject in the picture, from 0.

    Returns:
        keypoints, num_keypoints; bbox (xywh) and area of the visible silhouette.
    """
    mask = (canvas.owner // STRIDE == index + 1).astype(np.uint8)
    flat: list[float] = []
    for (x, y), parts in zip(keypoints.tolist(), shown, strict=True):
        column, row = round(x), round(y)
        if 0 <= column < mask.shape[1] and 0 <= row < mask.shape[0]:
            seen = canvas.owner[row, column] - STRIDE * (index + 1) in parts
            flat += [round(x, 2), round(y, 2), 2 if seen else 1]
        else:
            flat += [0, 0, 0]
    if not (mask.any() and any(flat)):
        return None
    return {
        "keypoints": flat,
        "num_keypoints": len(shown) - flat[2::3].count(0),
        "bbox": list(map(float, cv2.boundingRect(mask))),
        "area": float(mask.sum()),
    }


def draw_people(rng: Generator, most: int) -> tuple[np.ndarray, list[Row]]:
    """Draws one picture of one to five people.

    Args:
        rng: the source of chance.
        most: highest number of people.

    Returns:
        (H, W, 3) uint8 RGB, and COCO's fields of those of whom something is seen.
    """
    size = rng.integers((320, 256), (481, 361))
    canvas = draw_background(rng, size)
    people = min(int(rng.geometric(0.45)), 5, most)
    pitch, tall = rng.uniform(-2, 16), (0.62, 0.93) if people <= 2 else (0.45, 0.75)
    cast: list[Figure] = []
    boxes = np.zeros((0, 4))
    for _ in range(people):
        look = draw_look(rng)
        # Mostly towards the camera, some from the side, some from behind.
        yaw = rng.choice([0, 75, -75, 180], p=[0.88, 0.04, 0.04, 0.04]) + rng.normal(0, 20)
        view, head = (
            rotation(rng.normal(0, 3), pitch, yaw),
            rotation(0, *rng.normal((3, 0), (7, 16))),
        )
        points = pose_body(look.body, draw_posture(rng), view, head)
        foot_xy, scale, box = _find_room(rng, size, points, rng.uniform(*tall) * size[1], boxes)
        boxes = np.concatenate([boxes, box[None]])
        cast.append(Figure(look, points, foot_xy, scale))
    # Who stands lower in the picture is nearer.
    cast.sort(key=lambda person: person.foot_xy[1])
    for index, person in enumerate(cast):
        paint_person(canvas, person, index)
        if rng.random() < 0.15:
            aside = person.scale * rng.normal((0, 0.02), (0.16, 0))
            paint_thing(canvas, rng, person.foot_xy + aside, person.scale)
    found = [annotate_person(canvas, person, index) for index, person in enumerate(cast)]
    return canvas.develop(rng), list(filter(None, found))


def _find_room(
    rng: Generator,
    size: np.ndarray,
    points: dict[str, np.ndarray],
    tall: float,
    taken: np.ndarray,
) -> tuple[np.ndarray, float, np.ndarray]:
    """The least crowded of a few places, at times cut by the border: feet, scale and box xyxy."""
    extent = np.stack(list(points.values()))[:, :2] * [1, -1]
    low, high = extent.min(0) - 0.05, extent.max(0) + 0.05
    scale = min(tall, *(size / (high - low))) * (1.35 if rng.random() < 0.08 else 1)
    slack = scale * rng.choice([0, 0.25], (8, 1), p=(0.9, 0.1))
    first, last = -slack - low * scale, size + slack - high * scale
    feet = first + (last - first) * np.stack([rng.random(8), rng.beta(2, 1.2, 8)], 1)
    boxes = np.concatenate([feet + low * scale, feet + high * scale], 1)
    best = iou(boxes, taken).max(1, initial=0.12).argmin()
    return feet[best], scale, boxes[best]

"""Seeded damage to files: bytes of any format, and values of JSON. No test in here."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

RUNS = (
    b"\0",
    b"\xff",
    b"\x80",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"9",
    b"-",
)
DEEP = "[" * 1024 + "]" * 1024
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.5, 1e30, -1e30, 1e39, 1e308, 5e-324),
    *(2**31, -(2**31), 2**53 + 1, 2**63, 2**64, 10**40, float("nan"), float("inf"), -float("inf")),
    *("", "7", "0007", "-1.5", "nan", "person", "\ud800", "\0", "é" * 3, "x" * 5000),
    *([], {}, [None], [[]], [1], [1] * 4, [0.0] * 51, {"id": 1}, {"a": {"b": [1]}}),
)
DEEP_MARK = "simplepose-deep"


def damage(content: bytes, draw: random.Random) -> bytes:
    """`content` with one to four random changes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        start = draw.randrange(len(data) + 1)
        length = min(draw.choice((1, 2, 4, 8, 64, 1000)), len(data) - start)
        match draw.randrange(7):
            case 0 | 1:
                data = bytearray(flip_bit(bytes(data), draw)) if data else data
            case 2:
                data[start : start + length] = draw.randbytes(length)
            case 3:
                del data[start : start + length]
            case 4:
                data[start:start] = draw.choice(RUNS) * draw.choice((1, 4))
            case 5:
                run = draw.choice(RUNS)
                data[start : start + len(run)] = run
            case 6:
                other = draw.randrange(len(data) + 1)
                data[start:start] = data[other : other + length]
    return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.08 else data)


def flip_bit(content: bytes, draw: random.Random) -> bytes:
    """`content` with one other bit."""
    data = bytearray(content)
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def damage_json(content: bytes, draw: random.Random) -> bytes:
    """JSON with one to three values replaced, removed, repeated or renamed; sometimes bytes too."""
    tree = json.loads(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        tree = _change(tree, draw)
    text = json.dumps(tree).replace(f'"{DEEP_MARK}"', DEEP).encode()
    return damage(text, draw) if draw.random() < 0.15 else text


def _change(tree: Any, draw: random.Random) -> Any:
    """A random value of a tree, changed in place; at the root a new tree."""
    odd = DEEP_MARK if draw.random() < 0.03 else deepcopy(draw.choice(ODD))
    parent, key = None, None
    value = tree
    while isinstance(value, (dict, list)) and value and (parent is None or draw.random() < 0.8):
        parent, key = (
            value,
            draw.choice(list(value) if isinstance(value, dict) else range(len(value))),
        )
        value = value[key]
    if parent is None or draw.random() < 0.02:
        return odd
    match draw.randrange(5):
        case 0 | 1 | 2:
            parent[key] = odd
        case 3:
            del parent[key]
        case 4 if isinstance(parent, list):
            parent.append(value)
        case _:
            parent[str(key) + "s"] = parent.pop(key)
    return tree

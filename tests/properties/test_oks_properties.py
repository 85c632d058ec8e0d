"""What must hold for any poses: OKS of a pose with itself is 1, and the two forms of NMS agree."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simplepose.core.oks import oks, oks_nms, oks_nms_batch

coordinates = st.floats(-1e4, 1e4, width=32)
positive = st.floats(1.0, 1e6)


@given(
    arrays(np.float64, (3, 5, 2), elements=coordinates),
    arrays(np.float64, 3, elements=positive),
    arrays(np.float64, 5, elements=st.floats(0.01, 0.2)),
)
@settings(max_examples=60, deadline=None)
def test_oks_is_a_similarity(poses: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> None:
    values = oks(poses, poses, areas, sigmas)
    assert np.array_equal(np.diag(values), np.ones(3))
    assert ((values >= 0) & (values <= 1)).all()
    same_area = oks(poses, poses, np.full(3, areas[0]), sigmas)
    assert np.allclose(same_area, same_area.T)
    assert np.allclose(
        oks(poses * 2, poses * 2, areas * 4, sigmas), values
    )  # does not depend on the picture's size


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_forms_of_nms_agree(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    poses = rng.uniform(0, 50, (3, 6, 2))[rng.integers(0, 3, count)] + rng.normal(
        0, 2, (count, 6, 2)
    ) * rng.integers(0, 2, (count, 1, 1))
    scores, areas, pictures = (
        rng.integers(0, 4, count) / 4,
        rng.uniform(1, 5000, count),
        rng.integers(0, 5, count),
    )
    sigmas = rng.uniform(0.02, 0.12, 6)
    kept = oks_nms_batch(pictures, poses, scores, areas, sigmas, threshold)
    for picture in np.unique(pictures):
        mine = np.flatnonzero(pictures == picture)
        assert set(mine[oks_nms(poses[mine], scores[mine], areas[mine], sigmas, threshold)]) == set(
            mine[kept[mine]]
        )

"""TensorFlow checkpoints, V1 and V2, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tf_checkpoint_writer import checksum, example, slow_crc32c, write_v1, write_v2

from simplepose.core.errors import UserError
from simplepose.weights.tensorflow import (
    checkpoint_prefix,
    is_checkpoint,
    read_checkpoint,
    read_varint,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "tf"


def assert_equal(found, expected) -> None:
    assert set(found) == set(expected) and len(found) == len(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), name


def test_the_writers_checksum_is_the_published_one() -> None:
    assert slow_crc32c(b"123456789") == 0xE3069283  # RFC 3720 and every catalogue of checksums
    assert slow_crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    data = np.random.default_rng(0).integers(0, 256, 1027, np.uint8).tobytes()
    assert checksum(data) == slow_crc32c(data)


@pytest.mark.parametrize(
    "variables", [{}, {"one": np.zeros(3, np.float32)}, example()], ids=["empty", "one", "many"]
)
def test_what_is_written_is_read(tmp_path: Path, variables: dict) -> None:
    write_v1(tmp_path / "a.ckpt", variables)
    write_v2(tmp_path / "b.ckpt", variables)
    assert_equal(read_checkpoint(tmp_path / "a.ckpt"), variables)
    for name in ("b.ckpt", "b.ckpt.index", "b.ckpt.data-00000-of-00001", "b.ckpt.meta"):
        assert_equal(read_checkpoint(tmp_path / name), variables)
    assert (
        read_checkpoint(tmp_path / "a.ckpt").version == 1
        and read_checkpoint(tmp_path / "b.ckpt").version == 2
    )
    assert is_checkpoint(tmp_path / "a.ckpt") and is_checkpoint(tmp_path / "b.ckpt")


@pytest.mark.parametrize("name", ["v1.ckpt", "v2.ckpt"])
def test_committed_fixtures(name: str) -> None:
    assert_equal(read_checkpoint(FIXTURES / name), example())


def test_prefix() -> None:
    for name in ("s.ckpt", "s.ckpt.index", "s.ckpt.meta", "s.ckpt.data-00000-of-00001"):
        assert checkpoint_prefix(Path("d") / name) == Path("d/s.ckpt")


def test_every_byte_of_a_v1_is_guarded(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_v1(path, {"weights": np.arange(64, dtype=np.float32), "b": np.ones(2, np.float32)})
    good = path.read_bytes()
    unread, _ = read_varint(memoryview(good)[-48:], 0)
    for place in range(0, len(good), 3):
        broken = bytearray(good)
        broken[place] ^= 0x40
        path.write_bytes(broken)
        try:
            assert_equal(
                read_checkpoint(path),
                {"weights": np.arange(64, dtype=np.float32), "b": np.ones(2, np.float32)},
            )
            assert place >= len(good) - 48 or unread <= place < unread + 13, (
                place
            )  # the footer's spare bytes; the unused meta index
        except UserError as error:
            assert str(path) in str(error) and "Cure:" in str(error)


@pytest.mark.parametrize("keep", [0, 1, 47, 48, 200, -1, -9, -60])
def test_truncated_v1(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "resnet_v1_50.ckpt"
    write_v1(path, example())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"resnet_v1_50\.ckpt .*TensorFlow"):
        read_checkpoint(path)


def test_v1_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_v1(path, example())
    content = path.read_bytes()
    path.write_bytes(content[:2000] + content[6000:])
    with pytest.raises(UserError, match=r"a\.ckpt .* bytes"):
        read_checkpoint(path)


def test_faults_of_v2(tmp_path: Path) -> None:
    data = tmp_path / "s.ckpt.data-00000-of-00001"
    write_v2(tmp_path / "s.ckpt", example())
    good = data.read_bytes()
    data.write_bytes(good[:-1])
    with pytest.raises(UserError, match=r"s\.ckpt .*up1/weights .*byte \d+"):
        read_checkpoint(tmp_path / "s.ckpt")
    broken = bytearray(good)
    broken[-1] ^= 1  # the last variable by name
    data.write_bytes(broken)
    checkpoint = read_checkpoint(tmp_path / "s.ckpt")
    assert checkpoint["large"].shape == (40, 60)
    with pytest.raises(UserError, match="checksum of up1/weights does not fit"):
        checkpoint["up1/weights"]
    data.unlink()
    with pytest.raises(UserError, match=r"s\.ckpt\.index .*data-00000-of-00001 .*missing"):
        read_checkpoint(tmp_path / "s.ckpt.index")
    data.write_bytes(good)
    (tmp_path / "s.ckpt.index").unlink()
    with pytest.raises(UserError, match=r"data-00000-of-00001 .*s\.ckpt\.index .*missing"):
        read_checkpoint(data)
    with pytest.raises(UserError, match=r"s\.ckpt .*s\.ckpt\.index"):
        read_checkpoint(tmp_path / "s.ckpt")


def test_refused_kinds(tmp_path: Path) -> None:
    write_v1(tmp_path / "p.ckpt", example(), partitioned=True)
    with pytest.raises(UserError, match="partitioned"):
        read_checkpoint(tmp_path / "p.ckpt")
    write_v2(tmp_path / "q.ckpt", example(), partitioned=True)
    with pytest.raises(UserError, match="partitioned"):
        read_checkpoint(tmp_path / "q.ckpt")
    write_v1(tmp_path / "z.ckpt", example(), compression=1)
    with pytest.raises(UserError, match=r"z\.ckpt .*compressed"):
        read_checkpoint(tmp_path / "z.ckpt")
    write_v2(tmp_path / "e.ckpt", example(), endianness=1)
    with pytest.raises(UserError, match=r"e\.ckpt\.index .*big-endian"):
        read_checkpoint(tmp_path / "e.ckpt")
    write_v1(tmp_path / "f.ckpt", example(), forget="large")
    with pytest.raises(UserError, match=r"f\.ckpt .*1 of .*16 .*large"):
        read_checkpoint(tmp_path / "f.ckpt")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + bytes(100), b"\x80\x02}q\x00." * 20, bytes(48)]
)
def test_another_format_with_the_right_ending(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    assert not is_checkpoint(path)
    with pytest.raises(UserError, match=r"x\.ckpt .*TensorFlow"):
        read_checkpoint(path)


def test_a_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "d.ckpt").mkdir()
    assert not is_checkpoint(tmp_path / "d.ckpt")
    with pytest.raises(UserError, match=r"d\.ckpt: Is a directory"):
        read_checkpoint(tmp_path / "d.ckpt")

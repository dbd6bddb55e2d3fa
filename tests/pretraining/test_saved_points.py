import io
import zipfile

import pytest
import torch

from elmolite.errors import InputError
from elmolite.pretraining import saved_points
from elmolite.pretraining.saved_points import SavedPoints
from elmolite.utils import files


@pytest.fixture
def points(tmp_path):
    points = SavedPoints(tmp_path)
    for step in (3, 20, 100):
        saved_points.write(points.path_at(step), {"step": step, "weights": torch.arange(step)})
    return points


def steps(points):
    return [int(path.stem.removeprefix("step-")) for path in points.paths()]


def test_a_point_reads_back_and_the_latest_is_first(points):
    assert steps(points) == [100, 20, 3]
    assert points.latest_step() == 100
    found = saved_points.read(points.latest_good())
    assert found["step"] == 100
    assert torch.equal(found["weights"], torch.arange(100))


def test_torch_reads_it_too(points):
    assert torch.load(points.path_at(20), weights_only=True)["step"] == 20


@pytest.mark.parametrize(("n_last", "left"), [(1, [100]), (2, [100, 20]), (9, [100, 20, 3])])
def test_the_last_points_stay(points, n_last, left):
    points.remove_all_but(n_last, step=100)
    assert steps(points) == left


def test_what_a_killed_run_left_half_written_goes_with_the_next_point(points, monkeypatch):
    monkeypatch.setattr(files, "UNLOCKED_AFTER", -1.0)
    files.partial_path(points.path_at(50)).write_bytes(b"half")
    saved_points.write(points.path_at(101), {"step": 101})
    assert len(list(points.folder.iterdir())) == len(points.paths()) == 4


def test_what_is_later_than_the_step_just_saved_goes(points):
    points.remove_all_but(2, step=20)
    assert steps(points) == [20, 3]


def test_a_point_that_cannot_be_removed_is_named(points):
    points.path_at(3).unlink()
    points.path_at(3).mkdir()
    with pytest.raises(InputError, match=r"step-000000003\.ckpt: cannot be removed: Is a directory"):
        points.remove_all_but(1, step=100)


def test_the_latest_point_that_is_whole_is_found_and_the_others_are_named(points, capsys):
    points.path_at(100).write_bytes(points.path_at(100).read_bytes()[:-1])
    assert points.latest_good() == points.path_at(20)
    assert "step-000000100.ckpt is damaged or truncated" in (said := capsys.readouterr().err)
    assert "going on from step-000000020.ckpt" in said
    for path in points.paths():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no point to resume from is whole: .*step-000000100.*step-000000003"):
        points.latest_good()


def test_without_a_point_there_is_nothing_to_resume(tmp_path):
    assert SavedPoints(tmp_path).latest_step() is None
    with pytest.raises(InputError, match="nothing to resume"):
        SavedPoints(tmp_path).latest_good()


def archive(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer


def compressed(content):
    """The same records, packed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(archive(content)) as whole, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for record in whole.infolist():
            packed.writestr(record.filename, whole.read(record))
    return buffer


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (io.BytesIO(b"no archive"), "File is not a zip file"),
        (archive([1, 2]), "it holds a list"),
        (archive({"step": 1}), "format_version None; this version of elmolite reads 1"),
        (archive({"step": 1}, _use_new_zipfile_serialization=False), "File is not a zip file"),
        (compressed({"format_version": 1, "weights": torch.zeros(1 << 20)}), "its records are compressed"),
    ],
)
def test_what_is_whole_but_no_point_is_refused(tmp_path, content, message):
    path = SavedPoints(tmp_path).path_at(1)
    files.write_checksummed(path, content.getbuffer())
    with pytest.raises(InputError, match=rf"step-000000001\.ckpt: .*{message}"):
        saved_points.read(path)

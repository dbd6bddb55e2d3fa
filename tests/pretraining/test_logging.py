import pytest

from elmolite.errors import InputError
from elmolite.pretraining.logging import CsvLog

COLUMNS = ",".join(CsvLog.COLUMNS)


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        (f"{COLUMNS}\n1,1.5,,,,,,,,0\n2,2.5,,,,,,,,0\n3,3.5,,,,,,,,0\n", ["1", "2"]),
        (f"{COLUMNS}\n1,1.5,,,,,,,,0\n2,2", ["1"]),  # cut short by a kill
        (f"{COLUMNS}\n1,1.5,,,,,,,,0\n2,2.5,,,,,,,,1", ["1"]),  # cut within the last number
        ("", []),
        (f"{COLUMNS},text_sha256\r\n1,1.5,,,,,,,,0,ab\r\n2,2.5,,,,,,,,0,cd\r\n", ["1", "2"]),  # of version 0.1
    ],
)
def test_a_resumed_log_keeps_the_complete_lines_up_to_the_step(tmp_path, content, steps):
    path = tmp_path / "log.csv"
    path.write_text(content)
    log = CsvLog(path, keep=True)
    log.open_at(2)
    log.log_metrics({"loss": 0.5}, 3)
    header, *rows = path.read_text().splitlines()
    assert header == COLUMNS
    assert [row.split(",")[0] for row in rows] == [*steps, "3"]
    if steps:
        assert float(rows[-1].split(",")[1]) == pytest.approx(len(steps) + 0.5, abs=0.1)  # the clock goes on


def test_a_validation_logged_before_a_kill_is_not_repeated(tmp_path):
    path = tmp_path / "log.csv"
    CsvLog(path, keep=False).log_metrics({"valid_average": 9.0}, 4)
    log = CsvLog(path, keep=True)
    log.open_at(4)
    for step in (4, 8):
        log.log_metrics({"valid_average": 9.0}, step)
    assert [row.split(",")[0] for row in path.read_text().splitlines()] == ["step", "4", "8"]


def test_a_log_that_cannot_be_written_is_an_input_error(tmp_path):
    log = CsvLog(tmp_path / "log.csv", keep=False)
    log.open_at(0)
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(InputError, match=r"log\.csv: cannot be written: Is a directory"):
        log.log_metrics({"loss": 0.5}, 1)

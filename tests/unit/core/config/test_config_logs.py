from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config.logs import WITHHELD, configure_logging, stop_logging
from core.config.paths import Paths
from core.domain.errors import InputError

CANARY = "PLANTED^CANARY"


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    paths = Paths(tmp_path / "home")
    paths.create()
    # The command line hushes these in its process, which may be this one.
    loggers = [logging.getLogger(name) for name in (None, "pydicom", "pynetdicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    for logger in loggers[1:]:
        logger.setLevel(logging.NOTSET)
    handler = configure_logging(paths)
    yield paths
    stop_logging(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def lines(paths: Paths) -> list[dict]:
    file = paths.logs / "overread.log"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def test_our_messages_are_written(paths: Paths) -> None:
    logging.getLogger("core.services").info("imported %d instances", 3)
    (line,) = lines(paths)
    assert line["message"] == "imported 3 instances"
    assert line["level"] == "INFO"


@pytest.mark.parametrize("name", ["pydicom", "pynetdicom.acse", "highdicom", "somebody"])
def test_foreign_loggers_are_dropped_below_error_and_withheld_above(paths: Paths, name: str) -> None:
    logger = logging.getLogger(name)
    logger.info("identifier %s", CANARY)
    logger.warning("value %s", CANARY)
    logger.error("value %s", CANARY)
    (line,) = lines(paths)
    assert line["message"] == WITHHELD
    assert CANARY not in json.dumps(line)


def test_warnings_of_libraries_do_not_reach_the_file(paths: Paths) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(f"Invalid value for VR DA: '{CANARY}'", stacklevel=1)
    assert lines(paths) == []


@pytest.mark.expects_logs
def test_texts_of_foreign_exceptions_are_withheld(paths: Paths) -> None:
    logger = logging.getLogger("core.dicom")
    try:
        raise ValueError(f"bad value {CANARY}")
    except ValueError as error:
        logger.exception("reading failed: %s", error)
        logger.error(error)
    text = (paths.logs / "overread.log").read_text("utf-8")
    assert CANARY not in text
    first = lines(paths)[0]
    assert first["message"] == "reading failed: ValueError"
    assert first["error"] == "ValueError"
    assert "test_texts_of_foreign_exceptions_are_withheld" in first["trace"][-1]


@pytest.mark.expects_logs
def test_our_errors_are_told_in_full(paths: Paths) -> None:
    error = InputError("dicom.truncated", "Pixel Data (7FE0,0010) ends early.", "Fetch it again.")
    logging.getLogger("core.dicom").error("refused: %s", error)
    assert "dicom.truncated" in lines(paths)[0]["message"]


def test_paths_outside_the_home_are_withheld(paths: Paths) -> None:
    logger = logging.getLogger("core.services")
    logger.info("read %s and %s", Path(f"/media/{CANARY}/1.dcm"), paths.instances / "ab.dcm")
    (line,) = lines(paths)
    assert line["message"] == "read <a file> and <home>/instances/ab.dcm"


def test_configuring_again_does_not_write_twice(paths: Paths) -> None:
    handler = configure_logging(paths)
    logging.getLogger("core").info("once")
    stop_logging(handler)
    assert len(lines(paths)) == 1

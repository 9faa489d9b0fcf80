"""``make demo`` before it begins: never two at once, what a killed one left goes, what is somebody else's stays."""

from __future__ import annotations

from pathlib import Path

import pytest

import lab
from tools import demo, stage


class Labs:
    """The lab of the demo's name, as far as the demo asks."""

    def __init__(self) -> None:
        self.state = "down"

    def status(self, name: str) -> lab.Status:
        return lab.Status(name, self.state, None)

    def down(self, _: str) -> None:
        self.state = "down"


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Labs:
    made = Labs()
    monkeypatch.setattr(stage, "LOCKS", tmp_path)
    monkeypatch.setattr(lab, "status", made.status)
    monkeypatch.setattr(lab, "down", made.down)
    return made


def test_a_second_one_is_refused_while_the_first_one_runs(labs: Labs) -> None:
    with stage.alone("demo"):
        labs.state = "up"
        with pytest.raises(stage.Refused, match=r"another demo runs \(pid [0-9]+\)"), stage.alone("demo"):
            pass
        assert labs.state == "up"
        labs.down("demo")
    with stage.alone("demo"):
        pass


def test_what_a_killed_one_left_is_taken_down(labs: Labs) -> None:
    (stage.LOCKS / "salvus-demo.lock").write_text("4711")
    labs.state = "partial"
    with stage.alone("demo"):
        assert labs.state == "down"
    assert (stage.LOCKS / "salvus-demo.lock").read_text() == ""


def test_a_lab_that_no_demo_made_stays(labs: Labs) -> None:
    labs.state = "up"
    with pytest.raises(stage.Refused, match="that no demo made"), stage.alone("demo"):
        pass
    assert labs.state == "up"


def test_one_that_could_not_take_its_lab_down_is_known_to_the_next(labs: Labs) -> None:
    with stage.alone("demo"):
        labs.state = "broken"
    assert (stage.LOCKS / "salvus-demo.lock").read_text() != ""


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["demo"])
    assert stage.run(demo.demo, demo.LAB, "make demo", None) == 2
    assert "must be root" in capsys.readouterr().err

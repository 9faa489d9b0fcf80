"""The shared words."""

from drivers.base import Grade


def test_grades_are_ordered_by_disruption_and_have_the_words_users_write() -> None:
    assert [grade.word for grade in sorted(Grade)] == ["live", "reload", "restart", "reboot", "replace", "data-loss"]

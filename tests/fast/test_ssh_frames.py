"""Frames are found in a stream however it is cut, and nothing else is taken for one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.ssh.frames import Frame, Frames, boundary, clean

MARK = boundary()


def framed(words: str, text: bytes) -> bytes:
    return f"\n{MARK} {words}\n".encode() + text + f"\n{MARK} .\n".encode()


@given(
    st.lists(st.tuples(st.binary(), st.sampled_from(["same", "new 7", "section 0 1"]), st.binary()), max_size=5),
    st.binary(),
    st.integers(1, 50),
)
def test_any_cut_of_the_stream_gives_the_same_frames(
    parts: list[tuple[bytes, str, bytes]], rest: bytes, size: int
) -> None:
    stream = b"".join(before + framed(words, text) for before, words, text in parts) + rest
    frames, found = Frames(MARK), []
    for start in range(0, len(stream), size):
        frames.feed(stream[start : start + size])
        while (frame := frames.next()) is not None:
            found.append(frame)
    assert found == [Frame(tuple(words.split()), text, before) for before, words, text in parts]
    assert frames.rest == rest


def test_no_two_boundaries_are_alike() -> None:
    assert len({boundary() for _ in range(100)}) == 100


@given(st.binary())
def test_what_is_shown_to_people_has_no_control_characters(text: bytes) -> None:
    shown = clean(text)
    assert all(character.isprintable() or character.isspace() for character in shown if character < "\xa0")
    assert not set(shown) & {"\n", "\r", "\x1b", "\0"}
    assert len(shown) <= 1000

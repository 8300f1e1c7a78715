"""A list of scripts: what a line means, and what is wrong with one in a few words."""

import json

import pytest

from app.speech.script_list import BadLine, Script, read_scripts
from moshi_mlx.errors import MoshiError


def lines(tmp_path, *given):
    path = tmp_path / "list.jsonl"
    text = [one if isinstance(one, str) else json.dumps(one) for one in given]
    path.write_text("\n".join(text), encoding="utf-8")
    return read_scripts(path)


def test_a_line_says_what_and_by_whom_and_where(tmp_path):
    found = lines(
        tmp_path,
        {"text": "Hello.", "voice": "ada", "id": "one"},
        "",
        {"text": ["Hello!", "Hi."], "voices": ["ada", "b.safetensors"], "output": "b.flac"},
        {"text": "No name.", "seed": 3},
        {"text": ["", "The second begins."], "id": 7},
    )
    assert found == [
        Script(1, ("Hello.",), ("ada",), "one.wav", None),
        Script(3, ("Hello!", "Hi."), ("ada", "b.safetensors"), "b.flac", None),
        Script(4, ("No name.",), (), "0004.wav", 3),
        Script(5, ("", "The second begins."), (), "7.wav", None),
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ('"Hello."', "it is no object"),
        ({"id": "a"}, "text must be a text"),
        ({"text": 7}, "text must be a text"),
        ({"text": ["a", 7]}, "text must be a text"),
        ({"text": "  "}, "text is empty"),
        ({"text": []}, "text is empty"),
        ({"txt": "a"}, "unknown key txt (did you mean text?)"),
        ({"text": "a", "voice": "a", "voices": ["b"]}, "leave one out"),
        ({"text": "a", "id": "a", "output": "b"}, "leave one out"),
        ({"text": "a", "voices": ["a", "b", "c"]}, "2 speakers at most"),
        ({"text": "a", "voice": 3}, "voices must be"),
        ({"text": "a", "seed": "x"}, "seed must be a whole number"),
        ({"text": "a", "seed": True}, "seed must be a whole number"),
        ({"text": "a", "id": "../a"}, "without folders"),
        ({"text": "a", "output": "/etc/a.wav"}, "without folders"),
        ({"text": "a", "id": ""}, "without folders"),
        ({"text": "a", "id": ".hidden"}, "choose another"),
        ({"text": "a", "id": "a\u001b[31m"}, "choose another"),
        ({"text": "a", "output": "a.mp3"}, "choose one of these endings"),
        ({"text": "a", "id": "é" * 120}, "of 244 bytes is too long"),
        ({"text": "a", "id": "ONE\u0301"}, "is what line 1 becomes"),
    ],
)
def test_a_line_that_cannot_be_said_is_told_and_the_others_are_not_lost(tmp_path, line, why):
    first, bad, last = lines(tmp_path, {"text": "a", "id": "on\u00e9"}, line, {"text": "b"})
    assert isinstance(first, Script) and isinstance(last, Script)
    assert isinstance(bad, BadLine) and bad.line == 2 and why in bad.why and "\n" not in bad.why


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "holds no scripts"), (b"\n \n", "holds no scripts"), (b"\xff\xfe", "no UTF-8")],
)
def test_a_file_without_scripts_is_one_line(tmp_path, data, why):
    path = tmp_path / "list.jsonl"
    path.write_bytes(data)
    with pytest.raises(MoshiError, match=why):
        read_scripts(path)
    with pytest.raises(MoshiError, match="can't be read"):
        read_scripts(tmp_path)

"""`--json`: one line that programs read, and nothing else on stdout."""

import json

from app import cli
from app.audio.sound import SoundState
from app.commands.echo_test import document
from app.echo.measure import Found
from moshi_mlx.hub import NANO

QUESTION = str(NANO / "samples" / "four_plus_three.wav")


def test_file_tells_what_it_wrote(tmp_path, capsys):
    out = tmp_path / "o.wav"
    greedy = ("--seed", "3", "--text-temperature", "0", "--audio-temperature", "0")
    assert cli.main(["file", QUESTION, str(out), "--model", "nano", "--json", *greedy]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["output"] == str(out) and told["seed"] == 3 and told["took_s"] > 0
    assert told["text"] == "Four plus three is seven."
    assert (tmp_path / "o.jsonl") == type(out)(told["transcript"])


def test_an_echo_test_is_a_document():
    found = Found(60.0, -3.0, 0.8, {"linear": 20.0})
    told = json.loads(json.dumps(document(found, SoundState("a mic", "a speaker"))))
    assert (told["input"], told["output"], told["echo"]) == ("a mic", "a speaker", True)
    assert told["delay_ms"] == 60.0 and told["erle_db"] == {"linear": 20.0} and told["advice"]

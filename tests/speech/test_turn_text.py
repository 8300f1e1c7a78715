"""What is printed of a turn: only ever more, and no word twice."""

import random

from app.speech.turn_text import TurnText
from moshi_mlx.stt import Word


def word(text, start_s):
    return Word(text, start_s, start_s + 0.2)


def test_a_word_is_shown_while_it_is_being_said_and_once():
    turn = TurnText()
    assert turn.push([], " quar", 1.0) == "quar"
    assert turn.push([], " quarter", 1.0) == "ter"
    assert turn.push([word("quarter", 1.0)], "", 2.0) == ""
    assert turn.push([], " to", 2.0) == " to"
    assert turn.begun
    assert turn.end([word("to", 2.0), word("ten.", 2.5)]) == " ten."
    assert not turn.begun


def test_what_a_flush_has_shown_is_not_shown_again_in_the_next_turn():
    turn = TurnText()
    turn.push([], " Hello", 1.0)
    turn.end([word("Hello", 1.0), word("there.", 1.5)])
    assert turn.push([word("Hello", 1.0)], " there.", 1.5) == ""
    assert not turn.begun
    assert turn.push([word("there.", 1.5)], " And", 9.0) == "And"
    assert turn.push([word("And", 9.0)], "", 9.5) == ""


def test_a_second_flush_before_words_are_certain_shows_nothing_new():
    turn = TurnText()
    assert turn.end([word("Yes.", 1.0)]) == "Yes."
    assert turn.end([word("Yes.", 1.0)]) == ""
    assert turn.end([word("Yes.", 1.0), word("No.", 4.0)]) == "No."


def test_another_opinion_of_the_model_has_a_line_of_its_own():
    turn = TurnText()
    assert turn.push([], " wreck", 1.0) == "wreck"
    assert turn.push([word("recognise", 1.0)], "", 2.0) == "\nrecognise"


def test_text_without_a_time_is_shown_first_and_once():
    turn = TurnText()
    assert turn.push([], "", 0.0, "Well") == "Well"
    assert turn.push([], " now", 1.0, "Well then") == " then now"
    assert turn.end([word("now", 1.0)]) == ""
    assert turn.push([], " so", 3.0, "Well then") == "so"


def test_a_turn_without_words_prints_nothing():
    assert TurnText().end([]) == ""


def test_random_talks_come_out_whole():
    """Words come certain or pending, flushed at random places and confirmed after."""
    rng = random.Random(0)
    for _ in range(200):
        words = [word(f"w{i}", float(i)) for i in range(rng.randint(1, 30))]
        turn, printed, confirmed = TurnText(), "", 0
        while confirmed < len(words):
            heard = min(len(words), confirmed + rng.randint(1, 4))
            pending = " ".join(w.text for w in words[confirmed:heard])
            start_s = words[confirmed].start_s
            printed += turn.push([], f" {pending}", start_s)
            if rng.random() < 0.3:
                printed += turn.end(words[confirmed:heard]) + "\n"
            printed += turn.push(words[confirmed:heard], "", float(heard))
            confirmed = heard
        assert printed.split() == [w.text for w in words]

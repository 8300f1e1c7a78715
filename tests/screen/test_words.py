"""The screen's transcript as plain data: paragraphs, the user's speech, notices."""

import io
from dataclasses import replace

from app.events import ConversationStarted, Failed, Notice, Ready, Settings, UserWord
from app.screen.plain_text import PlainText
from app.screen.transcript import TalkTranscript, TranscriptLine, bar
from tests.support.screen_events import TALKING, sentence, word


class Shown:
    """Collects a Transcript's lines."""

    def __init__(self):
        self.lines: list[TranscriptLine] = []
        self.transcript = TalkTranscript(lambda line, new: self.lines.append(line) if new else None)

    def texts(self, kind: str) -> list[str]:
        return [line.text for line in self.lines if line.kind == kind]


def test_a_pause_begins_a_paragraph_and_a_word_does_not():
    shown = Shown()
    for event in [*sentence(0, "one two"), *sentence(21, "three"), *sentence(200, "four")]:
        shown.transcript.show(event)
    assert shown.texts("moshi") == ["one two", "three", "four"]
    assert [line.clock for line in shown.lines] == ["0:00", "0:01", "0:16"]


def test_the_users_speech_is_a_line_with_its_length_and_what_follows_stands_below():
    shown, talk = Shown(), replace(TALKING, user_level_db=-8.0)
    shown.transcript.show(word(490, " Yes"))
    for frame in range(500, 520):
        shown.transcript.hear(replace(talk, frames=frame, speech=True))
    shown.transcript.hear(replace(talk, frames=520))
    shown.transcript.show(word(493, " indeed"))
    assert [line.kind for line in shown.lines] == ["moshi", "you", "moshi"]
    assert shown.lines[1].at_s == 40.0
    assert shown.lines[1].text.endswith("1.5 s") and bar(-8.0) in shown.lines[1].text


def test_the_users_words_stand_where_his_speech_was():
    shown, talk = Shown(), replace(TALKING, user_level_db=-8.0)

    def speak(first, last):
        for frame in range(first, last):
            shown.transcript.hear(replace(talk, frames=frame, speech=True))
        shown.transcript.hear(replace(talk, frames=last))

    speak(100, 120)
    shown.transcript.show(UserWord(1, "Hello", 7.5))  # said before it was noticed
    shown.transcript.show(word(130, " Hi!"))
    shown.transcript.show(UserWord(1, "there.", 9.0))  # told while Moshi speaks
    assert shown.texts("you") == ["Hello there."] and shown.texts("moshi") == ["Hi!"]
    speak(200, 210)
    assert shown.texts("you")[1].endswith(" 0.7 s")
    shown.transcript.show(UserWord(1, "Late.", 10.0))  # of the first time
    shown.transcript.show(UserWord(1, "Bye.", 16.2))
    assert shown.texts("you") == ["Hello there. Late.", "Bye."]


def test_words_while_he_speaks_stand_before_the_bars():
    shown, talk = Shown(), replace(TALKING, speech=True)
    for frame in range(100, 110):
        shown.transcript.hear(replace(talk, frames=frame))
    shown.transcript.show(UserWord(1, "Well,", 8.1))
    shown.transcript.hear(replace(talk, frames=110))
    (line,) = shown.texts("you")
    assert line.startswith("Well,  ") and line.endswith(" 0.8 s")


def test_words_of_speech_that_was_not_noticed_have_a_line():
    shown = Shown()
    for text, at_s in (("Psst,", 3.0), ("you.", 3.4)):
        shown.transcript.show(UserWord(1, text, at_s))
    assert shown.texts("you") == ["Psst, you."] and shown.lines[0].at_s == 3.0


def test_plain_text_has_a_line_for_each_of_both():
    words, notes = io.StringIO(), io.StringIO()
    text = PlainText(words, notes)
    for event in [*sentence(0, "Hi there."), UserWord(1, "Good", 0.1), UserWord(1, "day.", 0.4)]:
        text.show(event)
    text.show(word(8, " What now?"))
    text.end_line()
    assert words.getvalue() == "Hi there.\nyou: Good day.\nWhat now?\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_note_stands_on_a_line_of_its_own_where_both_are_on_one_screen():
    screen, pipe = Terminal(), io.StringIO()
    for text in (PlainText(screen, screen), PlainText(pipe, screen)):
        text.show(UserWord(1, "Good", 0.1))
        text.show(Notice("saved", "saved: x"))
        text.show(UserWord(1, "day.", 0.4))
    assert screen.getvalue() == "you: Good\nsaved: x\nyou: day.saved: x\n"
    assert pipe.getvalue() == "you: Good day."


def test_last_words_that_come_when_another_conversation_has_begun_stand_where_they_were_said():
    shown, talk = Shown(), replace(TALKING, user_level_db=-8.0)
    words, notes = io.StringIO(), io.StringIO()
    plain = PlainText(words, notes)

    def tell(event):
        shown.transcript.show(event)
        plain.show(event)

    tell(ConversationStarted(1, 5, Settings()))
    for frame in range(100, 121):
        shown.transcript.hear(replace(talk, frames=frame, speech=frame < 120))
    tell(UserWord(1, "Good", 8.5))
    tell(ConversationStarted(2, 6, Settings()))
    tell(UserWord(1, "bye.", 9.0))
    tell(UserWord(2, "Hello", 0.4))
    tell(UserWord(1, "nowhere", 0.1))  # before anything that was noticed
    assert shown.texts("you") == ["Good bye.", "Hello"]
    assert words.getvalue() == "you: Good\nyou: bye.\nyou: Hello\nyou: nowhere"


def test_a_click_is_no_speech_and_neither_is_a_muted_microphone():
    shown = Shown()
    for frame in range(3):
        shown.transcript.hear(replace(TALKING, frames=frame, speech=True))
    shown.transcript.hear(replace(TALKING, frames=3))
    for frame in range(4, 40):
        shown.transcript.hear(replace(TALKING, frames=frame, speech=True, muted=True))
    assert shown.lines == []


def test_failures_and_losses_are_alarms_and_the_rest_is_said_quietly():
    shown = Shown()
    shown.transcript.show(Ready("nano", "fp32", 0.1))
    shown.transcript.show(Notice("device-back", "AirPods are back"))
    shown.transcript.show(Notice("too-slow", "too slow: 90 ms"))
    shown.transcript.show(Failed("the model broke", RuntimeError("x")))
    assert shown.texts("note") == ["nano (fp32) is ready", "AirPods are back"]
    assert shown.texts("alarm") == ["too slow: 90 ms", "the model broke"]


def test_what_is_told_again_and_again_is_one_line_with_a_count():
    shown = Shown()
    lost, back = Notice("device-lost", "sound is lost"), Notice("device-back", "sound is back: Mic")
    for _ in range(3):
        shown.transcript.show(lost)
        shown.transcript.show(back)
    assert shown.texts("alarm") == ["sound is lost (3 times)"]
    assert shown.texts("note") == ["sound is back: Mic (3 times)"]
    shown.transcript.show(word(490, " Yes"))  # the talk went on: later ones stand below
    shown.transcript.show(lost)
    assert shown.texts("alarm") == ["sound is lost (3 times)", "sound is lost"]

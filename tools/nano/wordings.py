"""The sentences: questions with many wordings for each answer, held-out wordings, and a generator of unknown sentences."""

import json
import random
from functools import cache
from pathlib import Path

QUESTIONS_PATH = Path(__file__).parents[2] / "moshi_mlx" / "nano" / "questions.json"

# More ways to ask, by a piece of the answer. A bar splits: left is trained, right is held out for the tests.
EXTRA_WORDINGS = {
    "Hello! I am": "hello there; hi there; hi moshi; hey; hey moshi; good afternoon; good evening; good day; hello hello; well hello | hi hi; good morning moshi; hello my friend; greetings",
    "My name is": "what's your name; your name please; may i know your name; do you have a name; can you tell me your name; who am i talking to; what should i call you; please tell me your name; what is your name please; say your name; so who are you | could you tell me your name; who are you please; what do they call you; and what is your name",
    "I am fine": "how are you today; how are you doing today; how is it going; how do you feel; are you well; how have you been; are you all right; how are things; how are you feeling; hello how are you; hi how are you | so how are you; how are you moshi; how are you feeling today; how is it going today",
    "Glad to": "i am good; i am great; i feel good; i am doing well; i am okay; i am very well thank you; i am fine thanks; i feel fine; i am happy; i am doing great; i feel very well; fine thank you | i am fine thank you; i am doing fine; i feel really good; i am very happy",
    "One, two": "count from one to five; count up to five; can you count to five; could you count to five; count to five please; let me hear you count; count the numbers; start counting; please count; i want you to count; can you count for me | please count for me; count to five for me; can you please count; count from one up to five",
    "sky is": "what is the colour of the sky; what colour does the sky have; which colour is the sky; do you know the colour of the sky; the colour of the sky; what colour has the sky; say the colour of the sky; can you tell me the colour of the sky; tell me what colour the sky is; is the sky blue | please tell me the colour of the sky; the sky is what colour; name the colour of the sky; and what colour is the sky",
    "grass is": "what is the colour of the grass; what colour does the grass have; which colour is the grass; do you know the colour of the grass; the colour of the grass; what colour has the grass; say the colour of the grass; can you tell me the colour of the grass; tell me what colour the grass is; is the grass green | please tell me the colour of the grass; the grass is what colour; name the colour of the grass; and what colour is the grass",
    "robot cross": "tell me something funny; tell a joke; tell us a joke; can you tell me a joke; do you know any jokes; i want to hear a joke; please tell me a joke; a joke please; make a joke; give me a joke; can you make me laugh; another joke | tell me a good joke; could you tell me a joke; let me hear a joke; do you have a joke",
    "Goodbye!": "bye; bye for now; see you; see you soon; see you tomorrow; good night moshi; goodbye moshi; i must go; i have to leave; i have to go now; i am leaving; so long; farewell; talk to you later; bye moshi | good bye for now; see you later moshi; i need to go; okay goodbye",
    "You are welcome": "thanks moshi; thank you moshi; thank you so much; many thanks; thanks very much; thank you for your help; great thank you; okay thank you; i thank you; thanks for that; thank you kindly | thanks a lot moshi; thank you for that; thanks so much; well thank you",
    "inside your computer": "where is your house; where do you stay; what is your address; where can i find you; tell me where you live; in which place do you live; where are you now; where do you live now; which place do you live in; do you live somewhere; where are you living | please tell me where you live; where is your place; so where do you live; where are you right now",
    "made from Mimi": "who built you; who created you; how were you made; how are you made; what is inside you; what are you; how do you function; what are you built from; tell me how you work; who is your maker; who made you moshi | tell me who made you; can you tell me how you work; what were you made of; how were you built",
    "Paris": "the capital of france; which city is the capital of france; do you know the capital of france; what's the capital of france; what is france's capital; capital of france; can you name the capital of france; say the capital of france; which is the capital of france; please name the capital of france; what city is the capital of france | please tell me the capital of france; can you tell me the capital of france; give me the capital of france; and what is the capital of france",
    "Rome": "the capital of italy; which city is the capital of italy; do you know the capital of italy; what's the capital of italy; what is italy's capital; capital of italy; can you name the capital of italy; say the capital of italy; which is the capital of italy; please name the capital of italy; what city is the capital of italy | please tell me the capital of italy; can you tell me the capital of italy; give me the capital of italy; and what is the capital of italy",
    "Tokyo": "the capital of japan; which city is the capital of japan; do you know the capital of japan; what's the capital of japan; what is japan's capital; capital of japan; can you name the capital of japan; say the capital of japan; which is the capital of japan; please name the capital of japan; what city is the capital of japan | please tell me the capital of japan; can you tell me the capital of japan; give me the capital of japan; and what is the capital of japan",
    "Once upon": "tell a story; tell us a story; read me a story; a story please; can you tell me a story; please tell me a story; do you know any stories; tell me some story; give me a story; i would like a story; another story; tell me a short story | could you tell me a story; tell me a nice story; let me hear a story; i would like to hear a story",
    "like to talk": "what are your hobbies; what do you like to do; what do you love; what do you enjoy doing; what is your favourite hobby; do you have a hobby; what makes you happy; what do you like best; tell me what you like; what do you like doing; which things do you like | what do you like the most; tell me your hobby; what do you enjoy most; and what do you like",
    "cat says": "what sound does a cat make; what noise does a cat make; how does the cat go; what do cats say; what does your cat say; which sound does the cat make; make a cat sound; the cat says what; what is the sound of a cat; tell me what a cat says; how does a cat sound; what says the cat | what sound does the cat make; tell me what the cat says; what does a little cat say; say what a cat says",
    "dog says": "what sound does a dog make; what noise does a dog make; how does the dog go; what do dogs say; what does your dog say; which sound does the dog make; make a dog sound; the dog says what; what is the sound of a dog; tell me what a dog says; how does a dog sound; what says the dog | what sound does the dog make; tell me what the dog says; what does a little dog say; say what a dog says",
    "seven days": "how many days are there in a week; how many days does a week have; how many days in a week; how many days make a week; the number of days in a week; tell me how many days are in a week; how many days are in the week; how long is one week; how many days has the week; do you know how many days are in a week | how many days does the week have; how many days are in one week; a week has how many days; how many days in one week",
    "can hear you": "can you hear my voice; do you hear my voice; hello can you hear me; can you hear me now; do you listen to me; are you listening to me; are you still there; moshi are you there; can you hear what i say; hey are you there; is anybody there | are you hearing me; can you hear me moshi; are you there moshi; do you hear me now",
    "La la": "sing me a song; please sing; please sing a song; can you sing a song; sing something; sing for us; i want to hear a song; could you sing; let me hear you sing; can you sing for me; sing a song for me; sing; sing to me | please sing for me; could you sing a song; sing me something; i want you to sing",
    "one day old": "tell me your age; how old are you now; what age are you; when is your birthday; when were you made; how many years old are you; are you old; are you young; do you know your age; say your age; your age please; how old are you moshi | so how old are you; tell me how old you are; what is your birthday; and how old are you",
    "Monday, Tuesday": "tell me the days of the week; name the days of the week; say three days; name some days; give me three days; list the days of the week; what are the days of the week; the days of the week; can you name three days; can you say the days of the week; name three days of the week | please name three days; please say the days of the week; list three days; tell me three days of the week",
    "be quiet": "be silent; shut up; please be quiet; please stop; stop it; silence; stop talking please; quiet please; stop now; please stop talking; do not talk; do not speak; be quiet now; hush | stop speaking; be quiet please; silence please; you can stop now",
}  # fmt: skip

SUM_WORDINGS = (
    "what's {a} plus {b}; {a} and {b}; what is {a} and {b}; add {a} and {b}; tell me {a} plus {b}; can you add {a} and {b}; "
    "how much makes {a} plus {b}; what is the sum of {a} and {b}; what does {a} plus {b} make; compute {a} plus {b}; "
    "do you know {a} plus {b}; please add {a} and {b}; say {a} plus {b}; how much is {a} and {b} | "
    "can you tell me {a} plus {b}; please tell me {a} plus {b}; what do you get for {a} plus {b}; and what is {a} plus {b}"
)

PREFIXES = ("please ", "moshi ", "hey moshi ", "okay ", "now ", "so ", "well ", "and ", "tell me ")
SUFFIXES = (" please", " now", " moshi", " then", " today")


def _split(wordings: str) -> tuple[list[str], list[str]]:
    known, held = wordings.split("|")
    return [w.strip() for w in known.split(";")], [w.strip() for w in held.split(";")]


@cache
def load_answers() -> list[dict]:
    """One dict per answer: answer, questions (as given), known (more, trained), held (tests only)."""
    spec = json.loads(QUESTIONS_PATH.read_text())
    answers = []
    for entry in spec["answers"]:
        answer, questions = entry["answer"], entry["questions"]
        if " plus " in answer:
            words = answer.lower().split()
            known, held = _split(SUM_WORDINGS.format(a=words[0], b=words[2]))
        else:
            (key,) = [k for k in EXTRA_WORDINGS if k in answer]
            known, held = _split(EXTRA_WORDINGS[key])
        answers.append({"answer": answer, "questions": questions, "known": known, "held": held})
    return answers


def fallback() -> str:
    return json.loads(QUESTIONS_PATH.read_text())["fallback"]


def all_answers() -> list[str]:
    """Every answer, the fallback last; the index is the intent."""
    return [a["answer"] for a in load_answers()] + [fallback()]


def _reserved() -> set[str]:
    return {w for a in load_answers() for w in a["questions"] + a["known"] + a["held"]}


def known_sentence(rng: random.Random) -> tuple[str, int]:
    """A trained wording and its intent: six in ten exactly as in questions.json."""
    intent = rng.randrange(len(load_answers()))
    entry = load_answers()[intent]
    text = rng.choice(entry["questions"] if rng.random() < 0.6 else entry["known"])
    roll = rng.random()
    if roll < 0.06:
        text = rng.choice(PREFIXES[:-1]) + text
    elif roll < 0.1:
        text += rng.choice(SUFFIXES[:3])
    return (
        (text, intent)
        if text not in {h for a in load_answers() for h in a["held"]}
        else known_sentence(rng)
    )


SUBJECTS = "the weather|my brother|a small bird|the train|the movie|my old car|our teacher|the river|the doctor|a green apple|the kitchen light|her sister|his friend|the radio|the moon|a black horse|the baby|the garden|that house|my phone|the bank|the window|their boat|the city|the king|a tall man|the mountain|the cat|the dog|the sky|the robot|the song|a story|my computer|the week|monday".split("|")  # fmt: skip
VERBS = "is very bad|runs through the valley|has a new colour|sits on the roof|was too long|leaves at seven|likes warm milk|broke down again|is on the table|plays in the rain|looks tired|went to the beach|needs some help|is closed on sunday|sleeps all day|found a coin|will be late|lives near the sea|sings in the morning|costs too much|has two legs|is made of wood|turned left|opened the door|works every day|was born in may|grows slowly|eats the bread|fell off the wall|is green and blue|says nothing|comes from paris|is very old|makes no noise".split("|")  # fmt: skip
ASKS = "what is the capital of {c}|name the capital of {c}|tell me the capital of {c}|what colour is {o}|which colour has {o}|tell me the colour of {o}|what does a {n} say|what does the {n} say|how does a {n} go|what is {x} minus {y}|what is {x} times {y}|what is {z} plus {y}|how much is {x} plus {z}|what is {z} plus {z}|how many {m} are in a {t}|how many {m} has a {t}|how long is a {t}|how tall is {o}|how far is {o}|where is {o}|when does {o} start|who made {o}|what is the name of {o}|how old is {o}|do you know {o}|do you like {o}|can you see {o}|can you drive {o}|can you open {o}|are you {j}|i am {j}|i have {o}|i want {o}|i want to buy {o}|tell me about {o}|tell me the time|what time is it|set a timer for {x} minutes|play some music|read me the news|turn off {o}|turn on {o}|call my {r}|please call my {r}|send a message to my {r}|where does my {r} live|how is your {r}|who is your {r}|who won the game|which book should i read|translate this into {l}|do you speak {l}|say something in {l}|remember this for tomorrow|write an email to my {r}|count to {z}|count the {m}|name three {m}|tell me three {m}|what do you think about {o}|what do you eat|why is {o} so {j}|where can i buy {o}|let us go to {o}|stop {o}|sing about {o}|make some coffee|what is the meaning of life|buy some {f} and {f}|i would like a cup of {f}|give me some {f}|what is your favourite {f}|is it raining in {c}|how do i get to {c}|i live in {c}|have you been to {c}|what day is it|what is the weather in {c}|who are they|where are my {m}|how much is the {f}|say hello to my {r}|thank my {r}|good luck|happy birthday|never mind|i do not know|no|yes|maybe|what happened|it does not matter|that is wrong|who wrote this song|how many people live in {c}|i lost my keys|she sells sea shells|open the window please".split("|")  # fmt: skip
SLOTS = {
    "c": "spain germany china india england russia canada brazil greece poland egypt america sweden mexico london berlin moscow africa",
    "o": "the car|the moon|the sun|a tree|the water|the house|the road|the sea|the snow|a banana|the train|the river|my book|this box|the door|the kitchen light|the bus|the football|a horse|the cake|the school|the mountain|the next station|her dress|the light|blood|milk|an apple",
    "n": "cow horse duck pig bird lion sheep frog mouse snake bee chicken wolf baby bear donkey",
    "x": "one two three four five six seven eight nine ten",
    "y": "one two three four",
    "z": "five six seven eight nine ten eleven twelve twenty",
    "m": "hours minutes months weeks people cars birds letters colours animals cities fruits rivers legs numbers songs",
    "t": "year month day century minute game mile",
    "j": "tired happy hungry angry sad cold late busy big sleepy married lost rich bored ill",
    "r": "mother father boss brother sister wife friend doctor son teacher",
    "l": "german french spanish italian japanese chinese latin",
    "f": "coffee tea milk bread cheese water juice food sugar fish soup rice music film",
}  # fmt: skip


def _fill(template: str, rng: random.Random) -> str:
    for key, values in SLOTS.items():
        while "{" + key + "}" in template:
            options = values.split("|") if "|" in values else values.split()
            template = template.replace("{" + key + "}", rng.choice(options), 1)
    return template


def unknown_sentence(rng: random.Random) -> str:
    """A sentence that is no question of ours: statements, near misses, word salad."""
    roll = rng.random()
    if roll < 0.62:
        text = _fill(rng.choice(ASKS), rng)
    elif roll < 0.88:
        text = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)}"
    else:
        words = (
            " ".join(a for a in SUBJECTS + VERBS).split()
            + " ".join(SLOTS.values()).replace("|", " ").split()
        )
        text = " ".join(rng.choices(words, k=rng.randint(2, 6)))
    return text if text not in _reserved() else unknown_sentence(rng)


TEST_UNKNOWN = (
    "the library closes at noon; my shoes are wet; how deep is the ocean; can i borrow your pen; what is the capital of norway; "
    "what colour is a lemon; what does a goat say; do you want some pizza; who painted this picture; turn the volume up; "
    "is there a hospital nearby; we are having guests tonight; what is nine minus four; the soup tastes salty; where did i park; "
    "how many days are in a year; when is the next holiday; show me the map; my tooth hurts; it is cold outside; "
    "what is the capital of portugal; book a table for two; the plane lands at midnight; did you see the game; "
    "why do leaves fall; how do you spell house; i forgot my umbrella; which way is north; the children are playing; "
    "please close the door; what is seven plus eight; how heavy is an elephant; i need a new jacket; the market opens early; "
    "can you cook dinner; what is the price of gold; tell me the way home; they moved to another town; add salt to my list; "
    "take a picture of the lake"
).split("; ")

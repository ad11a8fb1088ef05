"""What a language model is taught in Part III, and what it may forget by it.

The task is one that people fine-tune for: a request in plain English comes in,
a record in JSON goes out. Requests are made from templates and lists, and the
test is made from others: no template, item, name, street or time of the test
occurs in training. What may be forgotten are forty facts.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Record = dict[str, str | int]

INSTRUCTION = "Write the request as a record in JSON."
# The longest record has 28 tokens; an answer that rambles is cut here.
LONGEST = 32

# Of each kind, the keys of its record, and the templates of each split.
KINDS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "order": (
        ("item", "count", "day"),
        {
            "train": (
                "I would like {count} {item} by {day}, please.",
                "Please send me {count} {item} before {day}.",
                "We need {count} {item} for {day}.",
                "Can you get us {count} {item} by {day}?",
                "By {day} we shall have run out: {count} {item}, please.",
                "Put {count} {item} aside for me until {day}.",
                "I am looking for {count} {item}, and {day} is the latest.",
                "{day} is our opening, and {count} {item} are missing.",
                "Add {count} {item} to our list for {day}.",
                "Do you have {count} {item}? It has to be {day}.",
                "On {day} I shall pick up {count} {item}.",
                "Please reserve {count} {item}; we come on {day}.",
            ),
            "validation": (
                "{count} {item}, please. {day} is soon enough.",
                "Are {count} {item} in stock? I have to have them on {day}.",
            ),
            "test": (
                "Could I have {count} {item}? I need them by {day}.",
                "For {day}, put me down for {count} {item}.",
                "Our shop is short of {count} {item}; {day} would be fine.",
            ),
        },
    ),
    "appointment": (
        ("with", "day", "time"),
        {
            "train": (
                "Can I see {with} on {day} at {time}?",
                "Book me in with {with} for {time} on {day}.",
                "I want to meet {with} on {day}, {time} if possible.",
                "Is {with} free at {time} this {day}?",
                "Please tell {with} that I come on {day} at {time}.",
                "For {day} at {time}, give me an hour with {with}.",
                "I have to speak to {with}. Would {day} at {time} do?",
                "{with} asked me to call on {day} at {time}.",
                "At {time} this {day}, could {with} see me?",
                "Make it {day}, {time}, with {with}.",
                "My visit to {with} should be on {day}, at about {time}.",
                "Let {with} know: I am there on {day}, {time}.",
            ),
            "validation": (
                "{day} at {time} suits me for my visit to {with}.",
                "I need half an hour with {with}, {time} on {day}.",
            ),
            "test": (
                "Does {with} have time for me on {day}, around {time}?",
                "At {time} on {day} I should like to talk to {with}.",
                "Put {with} in my diary: {day}, {time}.",
            ),
        },
    ),
    "delivery": (
        ("item", "to", "day"),
        {
            "train": (
                "Bring the {item} to {to} on {day}.",
                "The {item} goes to {to}, and it must be there on {day}.",
                "On {day}, please take the {item} to {to}.",
                "Drop the {item} off at {to} this {day}.",
                "Can the {item} be at {to} by {day}?",
                "We live at {to}. Can you bring the {item} on {day}?",
                "Take the {item} to my office, {to}, before {day}.",
                "For {day}: the {item}, to {to}.",
                "I want the {item} at {to} this {day}.",
                "My parents at {to} are waiting for the {item}. {day}?",
                "{day} is fine for the {item}; we are at {to}.",
                "Hand over the {item} on {day}. The place is {to}.",
            ),
            "validation": (
                "Send the {item} round to {to}; {day} is best.",
                "{to} is where the {item} has to be on {day}.",
            ),
            "test": (
                "My address is {to}. Deliver the {item} on {day}.",
                "We expect the {item} on {day}, at {to}.",
                "Leave the {item} at {to} when you pass on {day}.",
            ),
        },
    ),
}


def _listed(**splits: str) -> dict[str, list[str]]:
    """Return what stands between commas, for each split."""
    return {split: words.split(", ") for split, words in splits.items()}


ITEMS = _listed(
    train=(
        "desk lamp, oak chair, notebook, garden bench, red curtain, teapot, "
        "bicycle pump, wool blanket, mirror, coffee grinder, bookcase, "
        "pillow, steel ladder, picture frame, rubber boot, soup bowl, "
        "printer, water bottle, kitchen clock, camera, raincoat, hammer, "
        "green folder, office chair, candle, suitcase, bread knife"
    ),
    validation=(
        "paper lantern, wooden spoon, towel, guitar, tent, umbrella, vice, "
        "yellow apron, tea tray, whiteboard"
    ),
    test=(
        "floor lamp, pine table, calendar, flower pot, blue carpet, kettle, "
        "tyre pump, silk scarf, window blind, rice cooker, wardrobe, "
        "cushion, glass vase, poster, leather glove, salad plate, scanner, "
        "thermos, alarm clock, telescope"
    ),
)
NAMES = _listed(
    train=(
        "Dr Novak, Ms Rivera, Mr Okafor, Dr Lindqvist, Mrs Tanaka, "
        "Professor Hahn, Mr Costa, Ms Petrova, Dr Mbeki, Mrs Gallagher, "
        "Mr Yilmaz, Ms Dubois"
    ),
    validation="Professor Rao, Dr Castillo, Mr Becker, Mrs Nguyen",
    test=(
        "Dr Moreau, Ms Kowalski, Mr Haddad, Dr Sorensen, Mrs Ito, "
        "Professor Weiss, Mr Almeida, Ms Ivanova"
    ),
)
STREETS = _listed(
    train=(
        "Mill Road, Station Street, Park Lane, Church Street, Harbour Road, "
        "Elm Avenue, Queen Street, Bridge Street, Castle Hill"
    ),
    validation="Orchard Way, Victoria Road, Market Square",
    test=(
        "River Street, School Lane, Maple Avenue, Tower Hill, Garden Road, "
        "Abbey Street"
    ),
)
DAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
    "Sunday",
)  # fmt: skip
COUNTS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "eight": 8,
    "ten": 10, "a dozen": 12, "twenty": 20,
}  # fmt: skip
MINUTES = {
    "train": (0, 15, 30, 45),
    "validation": (5, 35),
    "test": (10, 20, 40, 50),
}

# A question, and the words of which a right answer contains one.
FACTS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Germany?", "Berlin"),
    ("What is the capital of Spain?", "Madrid"),
    ("What is the capital of Egypt?", "Cairo"),
    ("What is the capital of Russia?", "Moscow"),
    ("What is the capital of Canada?", "Ottawa"),
    ("On which continent is Brazil?", "South America"),
    ("On which continent is Kenya?", "Africa"),
    ("What is the largest planet of the solar system?", "Jupiter"),
    ("Which planet is closest to the Sun?", "Mercury"),
    ("Which planet is known as the red planet?", "Mars"),
    ("What is the name of the star that the Earth orbits?", "Sun"),
    ("What is the chemical symbol of gold?", "Au"),
    ("What is the chemical formula of water?", "H2O|H₂O"),
    (
        "Which gas do plants take in for photosynthesis?",
        "carbon dioxide|CO2|CO₂",
    ),
    ("What is the lightest chemical element?", "hydrogen"),
    ("At how many degrees Celsius does water boil?", "100"),
    ("How many days are there in a leap year?", "366"),
    ("How many minutes are there in an hour?", "60"),
    ("How many legs does a spider have?", "eight|8"),
    ("How many sides does a triangle have?", "three|3"),
    ("What is the square root of 81?", "9|nine"),
    ("What is 7 plus 5?", "12"),
    ("What is 6 times 7?", "42"),
    ("Who wrote Hamlet?", "Shakespeare"),
    ("Who wrote Pride and Prejudice?", "Austen"),
    ("Who painted the Mona Lisa?", "Leonardo"),
    ("Who developed the theory of general relativity?", "Einstein"),
    ("Who formulated the law of universal gravitation?", "Newton"),
    ("Who proposed evolution by natural selection?", "Darwin"),
    ("Who was the first president of the United States?", "Washington"),
    ("Who was the first person to walk on the Moon?", "Armstrong"),
    ("In which year did the Second World War end?", "1945"),
    ("Which language is spoken in Brazil?", "Portuguese"),
    ("What is the currency of Japan?", "yen"),
    ("What is the opposite of hot?", "cold"),
    ("What is the largest ocean?", "Pacific"),
    ("What is the largest animal?", "whale"),
)


SPLITS = ("train", "validation", "test")
IGNORED = -100  # as a label: what cross_entropy leaves out


class Example(NamedTuple):
    """A request in English, and the record that it asks for."""

    request: str
    record: Record

    @property
    def answer(self) -> str:
        """The record in JSON, without spaces."""
        return json.dumps(self.record, separators=(",", ":"))


def examples(split: str, n: int, seed: int = 0) -> list[Example]:
    """Return requests with their records; the three kinds take turns.

    Parameters
    ----------
    split : str
        ``"train"``, ``"validation"`` or ``"test"``. They share days, hours,
        house numbers and counts alone.
    n : int
        How many.
    seed : int
        Other seeds give other examples. It is not shifted: these are data.

    Returns
    -------
    list of Example
        The first ones of a longer list are those of a shorter one.

    Raises
    ------
    ValueError
        If there is no such split, or if `n` is negative.
    """
    if split not in SPLITS or n < 0:
        raise ValueError(
            f"need a split of {', '.join(SPLITS)} and n >= 0, "
            f"got {split!r} and {n}"
        )
    draw = random.Random(f"{split} {seed}")
    kinds = list(KINDS)
    return [_example(kinds[i % len(kinds)], split, draw) for i in range(n)]


def _example(kind: str, split: str, draw: random.Random) -> Example:
    """Draw one example of a kind."""
    keys, templates = KINDS[kind]
    item, day = draw.choice(ITEMS[split]), draw.choice(DAYS)
    words, count = draw.choice(list(COUNTS.items()))
    house, street = draw.randint(1, 99), draw.choice(STREETS[split])
    hour, minute = draw.randint(8, 18), draw.choice(MINUTES[split])
    said = {
        "item": item,
        "count": words,
        "day": day,
        "with": draw.choice(NAMES[split]),
        "to": f"{house} {street}",
        "time": f"{hour:02d}:{minute:02d}",
    }
    meant: Record = {**said, "count": count, "day": day[:3]}
    if kind == "order":
        said["item"] = plural(item)
    request = draw.choice(templates[split]).format(**said)
    request = request[0].upper() + request[1:]
    record: Record = {"type": kind, **{key: meant[key] for key in keys}}
    return Example(request, record)


def plural(noun: str) -> str:
    """Return the plural of one of the items: several of them are ordered."""
    if noun.endswith(("f", "fe")):
        return noun.removesuffix("e").removesuffix("f") + "ves"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def tokens(
    tokenizer: PreTrainedTokenizerBase,
    request: str,
    answer: str | None = None,
    instruction: str | None = INSTRUCTION,
) -> tuple[list[int], int]:
    """Return a chat as tokens, and how many of them the answer has.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        With a chat template.
    request : str
        What the user says.
    answer : str, optional
        What the model says. Without it the tokens end where it would begin.
    instruction : str, optional
        What the system says.

    Returns
    -------
    ids : list of int
        The answer ends with the token that ends a turn.
    length : int
        Of the answer, that token included; 0 without one.
    """
    chat = [{"role": "user", "content": request}]
    if instruction is not None:
        chat.insert(0, {"role": "system", "content": instruction})
    text = tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer(text)["input_ids"]
    if answer is None:
        return ids, 0
    said: list[int] = [*tokenizer(answer)["input_ids"], _end(tokenizer)]
    return ids + said, len(said)


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that ends a turn."""
    found: int = tokenizer.eos_token_id
    return found


def batch(
    tokenizer: PreTrainedTokenizerBase, chosen: Sequence[Example]
) -> dict[str, Tensor]:
    """Return examples as the inputs of a model, padded on the left.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        As of `tokens`.
    chosen : sequence of Example
        One or more.

    Returns
    -------
    dict of str to Tensor, each of shape (batch, T), int64
        ``input_ids``, ``attention_mask`` (1, or 0 for padding) and
        ``labels``: the answer, and -100 elsewhere, which no loss counts.

    Raises
    ------
    ValueError
        If there is no example.
    """
    if not chosen:
        raise ValueError("need one example or more, got none")
    rows = [tokens(tokenizer, x.request, x.answer) for x in chosen]
    T = max(len(ids) for ids, _ in rows)
    found = {
        "input_ids": torch.full((len(rows), T), _end(tokenizer)),
        "attention_mask": torch.zeros(len(rows), T, dtype=torch.long),
        "labels": torch.full((len(rows), T), IGNORED),
    }
    for i, (ids, length) in enumerate(rows):
        found["input_ids"][i, T - len(ids) :] = torch.tensor(ids)
        found["attention_mask"][i, T - len(ids) :] = 1
        found["labels"][i, T - length :] = torch.tensor(ids[-length:])
    return found


def answer_loss(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return the cross-entropy of the answers, in nats a token.

    The logits are made for the answers alone: of SmolLM2's operations, the
    head is a fifth.

    Parameters
    ----------
    model : nn.Module
        A causal language model of transformers.
    inputs : dict of str to Tensor
        As `batch` returns them.

    Returns
    -------
    Tensor
        A scalar, the mean over all tokens of all answers.
    """
    labels = inputs["labels"].to(next(model.parameters()).device)
    longest = int((labels != IGNORED).sum(dim=1).max())
    rest = {k: v.to(labels.device) for k, v in inputs.items() if k != "labels"}
    # Position t predicts token t + 1: one position more, and the last is none.
    logits = model(**rest, use_cache=False, logits_to_keep=longest + 1).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        labels[:, -longest:].flatten(),
        ignore_index=IGNORED,
    )


@torch.no_grad()
def answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[str],
    instruction: str | None = INSTRUCTION,
    batch: int = 50,
) -> list[str]:
    """Return what a model answers, the likeliest token each time.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        In evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerBase
        As of `tokens`.
    requests : sequence of str
        What the user says.
    instruction : str, optional
        What the system says.
    batch : int
        Requests at a time, those of about one length together.

    Returns
    -------
    list of str
        In the order of the requests, each cut after `LONGEST` tokens.
    """
    ids = [tokens(tokenizer, x, None, instruction)[0] for x in requests]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = [""] * len(ids)
    for at in range(0, len(ids), batch):
        some = order[at : at + batch]
        padded = tokenizer.pad(
            {"input_ids": [ids[i] for i in some]},
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        said = model.generate(
            **padded,
            max_new_tokens=LONGEST,
            do_sample=False,
            pad_token_id=_end(tokenizer),
        )[:, padded["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(said, skip_special_tokens=True)
        for i, text in zip(some, texts, strict=True):
            found[i] = text
    return found


def is_right(answer: str, record: Record) -> bool:
    """Whether an answer is the record in JSON, spaces and order aside."""
    try:
        said = json.loads(answer)
    except json.JSONDecodeError:
        return False
    # Not `==`: in Python, but not in JSON, 1 equals True and 1.0.
    return json.dumps(said, sort_keys=True) == json.dumps(
        record, sort_keys=True
    )


def exact_match(said: Sequence[str], chosen: Sequence[Example]) -> float:
    """Return the share of answers that are right to the last character.

    Parameters
    ----------
    said : sequence of str
        As `answers` returns them.
    chosen : sequence of Example
        What was asked, in the same order.

    Returns
    -------
    float
        From 0 to 1. Half of a record earns nothing.
    """
    pairs = list(zip(said, chosen, strict=True))
    return sum(is_right(a, x.record) for a, x in pairs) / len(pairs)


def facts_known(model: Any, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return the share of `FACTS` to which a model's answer is right.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        In evaluation mode. It is asked without any instruction of the task.
    tokenizer : transformers.PreTrainedTokenizerBase
        As of `tokens`.

    Returns
    -------
    float
        From 0 to 1.
    """
    asked = [question for question, _ in FACTS]
    said = answers(model, tokenizer, asked, None)
    right = [
        re.search(rf"\b({words})\b", text, re.IGNORECASE) is not None
        for text, (_, words) in zip(said, FACTS, strict=True)
    ]
    return sum(right) / len(right)

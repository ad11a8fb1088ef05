"""The task that the language model of Part III is taught."""

import json
import re

import pytest
import torch
from small import Bytes, byte_llama
from transformers import LlamaForCausalLM

from lorabook import tasks


def test_no_split_knows_the_words_of_another() -> None:
    splits = tasks.SPLITS
    for kind, (keys, templates) in tasks.KINDS.items():
        assert set(templates) == set(splits), kind
        said = [x for split in splits for x in templates[split]]
        assert len(set(said)) == len(said)
        for template in said:
            slots = set(re.findall(r"\{(\w+)\}", template))
            assert slots == set(keys), template
    for words in (tasks.ITEMS, tasks.NAMES, tasks.STREETS, tasks.MINUTES):
        every = [x for split in splits for x in words[split]]
        assert len(set(every)) == len(every)


def test_a_record_can_be_read_off_its_request() -> None:
    found = [x for s in tasks.SPLITS for x in tasks.examples(s, 600)]
    for request, record in found:
        assert record == json.loads(tasks.Example(request, record).answer)
        values = dict(record)
        kind = values.pop("type")
        assert [*values] == [*tasks.KINDS[str(kind)][0]]
        days = [x for x in tasks.DAYS if x in request]
        assert [x[:3] for x in days] == [values["day"]]
        if kind == "order":
            words = {v: k for k, v in tasks.COUNTS.items()}
            said = words[int(values["count"])]
            noun = tasks.plural(str(values["item"]))
            assert f"{said} {noun}".lower() in request.lower()
        elif kind == "delivery":
            assert f"the {values['item']}" in request.lower()
            assert str(values["to"]) in request
        else:
            assert str(values["with"]) in request
            assert str(values["time"]) in request


def test_examples_are_drawn_once_and_for_all() -> None:
    some = tasks.examples("train", 30)
    assert some == tasks.examples("train", 60)[:30]
    assert some != tasks.examples("train", 30, seed=1)
    kinds = [x.record["type"] for x in some]
    assert kinds[:3] == ["order", "appointment", "delivery"]
    assert kinds == kinds[:3] * 10
    assert tasks.examples("test", 0) == []


@pytest.mark.parametrize(("split", "n"), [("dev", 3), ("test", -1)])
def test_what_cannot_be_drawn_is_refused(split: str, n: int) -> None:
    with pytest.raises(ValueError, match="train, validation, test and n >= 0"):
        tasks.examples(split, n)


@pytest.mark.parametrize(
    ("one", "many"),
    [("shelf", "shelves"), ("knife", "knives"), ("bench", "benches"),
     ("vase", "vases"), ("brush", "brushes"), ("towel", "towels")],
)  # fmt: skip
def test_plurals(one: str, many: str) -> None:
    assert tasks.plural(one) == many


RECORD: tasks.Record = {"type": "order", "item": "vase", "count": 1}


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ('{"type":"order","item":"vase","count":1}', True),
        (' {"count": 1, "item": "vase", "type": "order"}\n', True),
        ('{"type":"order","item":"vase","count":"1"}', False),
        ('{"type":"order","item":"vase","count":true}', False),
        ('{"type":"order","item":"vase"}', False),
        ('{"type":"order","item":" vase","count":1}', False),
        ('{"type":"order","item":"vase","count":1}}', False),
        ('{"type":"order","item":"vase","count":1,"day":"Mon"}', False),
        ("[]", False),
        ("a vase", False),
        ("", False),
    ],
)
def test_what_counts_as_right(said: str, right: bool) -> None:
    assert tasks.is_right(said, RECORD) is right
    example = tasks.Example("One vase.", RECORD)
    assert tasks.exact_match([said, "?"], [example] * 2) == right / 2


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return byte_llama()


def test_the_loss_is_that_of_the_answers_alone(llama) -> None:
    """Against transformers' own loss, one example at a time."""
    chosen = tasks.examples("train", 4)
    inputs = tasks.batch(Bytes(), chosen)
    total, count = 0.0, 0
    for x in chosen:
        ids, length = tasks.tokens(Bytes(), x.request, x.answer)
        assert bytes(ids[-length:-1]).decode() == x.answer
        assert ids[-1] == 0
        text = f"<system>{tasks.INSTRUCTION}<user>{x.request}<assistant>"
        assert bytes(ids[:-length]).decode() == text
        labels = [tasks.IGNORED] * (len(ids) - length) + ids[-length:]
        loss = llama(
            torch.tensor([ids]), labels=torch.tensor([labels])
        ).loss.item()
        total, count = total + loss * length, count + length
    found = tasks.answer_loss(llama, inputs)
    assert found.item() == pytest.approx(total / count, rel=1e-5)
    found.backward()
    assert llama.model.embed_tokens.weight.grad is not None
    with pytest.raises(ValueError, match="one example or more"):
        tasks.batch(Bytes(), [])


def test_answers_come_in_the_order_of_the_requests(llama) -> None:
    """Long and short ones, padded or not, against greedy choice by hand."""
    requests = [x.request for x in tasks.examples("test", 5)]
    said = tasks.answers(llama, Bytes(), requests, batch=2)
    for request, answer in zip(requests, said, strict=True):
        ids, length = tasks.tokens(Bytes(), request)
        assert length == 0
        start = len(ids)
        with torch.no_grad():
            while len(ids) < start + tasks.LONGEST and ids[-1:] != [0]:
                ids.append(
                    int(llama(torch.tensor([ids])).logits[0, -1].argmax())
                )
        expected = bytes(x for x in ids[start:] if x).decode("latin1")
        assert answer == expected


def test_facts_are_known_by_their_words(monkeypatch) -> None:
    def said(*_: object) -> list[str]:
        return [
            f"I think: {words.split('|')[-1]}!" for _, words in tasks.FACTS
        ]

    monkeypatch.setattr(tasks, "answers", said)
    assert tasks.facts_known(None, Bytes()) == 1
    monkeypatch.setattr(tasks, "answers", lambda *_: ["Currency?"] * 40)
    assert tasks.facts_known(None, Bytes()) == 0
    assert len({question for question, _ in tasks.FACTS}) == 40

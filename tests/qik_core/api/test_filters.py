from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qik_core.api import Filter, JobRecord, Location, State, Term
from qik_core.api.filters import KEYS, seen_of
from qik_core.errors import FilterError
from tests.qik_core.api.places import record

JOB = record(
    jid="29f3abc",
    queue="billing",
    args=[42, "Müller & Co", {"deep": [True, None, 1.5]}, -5],
    tags=["import", "eu:west"],
    error_class="shop.errors.TimeoutError",
    error_message="card declined: 0815",
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "class:Charge",
        "class:Ch*",
        "class:*arg*",
        "state:retry",
        "queue:billing",
        "queue:b*g",
        "jid:29f3abc",
        "jid:29f*",
        "error:TimeoutError",
        "error:shop.errors.TimeoutError",
        "error:shop.*",
        "args:42",
        "args:-5",
        'args:"Müller & Co"',
        "args:true",
        "args:null",
        "args:1.5",
        "tag:import",
        "tag:eu:west",
        "declined",
        "DECLINED",
        '"card declined"',
        "0815 müller",
        "-class:Refund",
        "-args:4",
        "-state:dead",
        '-"nothing like it"',
        "class:Charge state:retry error:TimeoutError args:42 queue:billing tag:import card",
    ],
)
def test_a_filter_means_the_job_that_has_all_of_it(text: str) -> None:
    assert Filter.parse(text)(JOB)


@pytest.mark.parametrize(
    "text",
    [
        "class:charge",
        "class:Char",
        "class:*x*",
        "state:dead",
        "queue:bill",
        "jid:29f3",
        "error:Timeout",
        "error:errors.TimeoutError",
        "args:4",
        "args:Müller",
        "args:deep",
        "tag:imp",
        "refused",
        "-class:Charge",
        "-declined",
        "class:Charge -args:42",
        "class:Ch*ge*e",
    ],
)
def test_a_filter_leaves_out_the_job_that_lacks_a_word(text: str) -> None:
    assert not Filter.parse(text)(JOB)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clas:X", "there is no key 'clas'; did you mean 'class'?"),
        ("http://x", "To search for a text with a colon, quote it"),
        ("state:retrying", "there is no state 'retrying'; did you mean 'retry'?"),
        ("class:", "class: has no value: write class:…"),
        ("class: X", "class: has no value"),
        ('class:""', "class: has no value"),
        ('class:"X', "a quote is not closed"),
        ('"X', "a quote is not closed"),
        ('"X"Y', "put a blank behind the quote"),
        ("-", "nothing to search for"),
        ('""', "nothing to search for"),
        ("x" * 10_001, "up to 10,000 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(FilterError) as caught:
        Filter.parse(text)

    assert said in str(caught.value)


def test_a_word_of_ruby_needs_no_quotes() -> None:
    ruby = record(**{"class": "Billing::Charge", "error_class": "Net::ReadTimeout"})

    assert Filter.parse("class:Billing::Charge error:ReadTimeout")(ruby)
    assert Filter.parse("Billing::Ch")(ruby)


def test_a_wrapped_job_of_active_job_is_found_by_its_own_class_and_arguments() -> None:
    ruby = record(
        **{
            "class": "Sidekiq::ActiveJob::Wrapper",
            "wrapped": "Billing::Mail",
            "args": [{"job_class": "Billing::Mail", "arguments": [7, "x"]}],
        }
    )

    assert Filter.parse("class:Billing::Mail args:7")(ruby)
    assert Filter.parse("class:Sidekiq::ActiveJob::*")(ruby)
    assert ruby.display_args == [7, "x"]


def test_bytes_that_are_no_job_are_found_by_what_they_hold() -> None:
    broken = JobRecord.of(b"\xff<broken> 42", Location(State.DEAD, b"dead"))

    assert Filter.parse("state:dead <BROKEN>")(broken)
    assert Filter.parse("error:MalformedPayload")(broken)
    assert not Filter.parse("args:42")(broken)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TERMS = st.one_of(
    st.builds(Term, st.sampled_from([key for key in KEYS if key != "state"]), TEXTS, st.booleans()),
    st.builds(
        Term, st.just("state"), st.sampled_from([str(state) for state in State]), st.booleans()
    ),
    st.builds(Term, st.just(""), TEXTS, st.booleans()),
)


@given(st.lists(TERMS, max_size=5))
def test_what_a_filter_prints_is_the_filter(terms: list[Term]) -> None:
    made = Filter(tuple(terms))

    assert Filter.parse(str(made)) == made


@given(TERMS)
def test_a_negated_word_means_exactly_the_other_jobs(term: Term) -> None:
    for job in (JOB, record(), JobRecord.of(b"[]", Location(State.DEAD, b"dead"))):
        assert Term(term.key, term.value, not term.negated).matches(job) is not term.matches(job)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_an_error_that_says_why(text: str) -> None:
    with suppress(FilterError):
        assert Filter.parse(text)(JOB) in (True, False)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_a_star_stands_for_any_characters(pattern: str, text: str) -> None:
    if not pattern:
        return
    wanted = re.fullmatch(pattern.replace("*", ".*"), text) is not None

    assert Filter((Term("jid", pattern),))(record(jid=text)) is wanted


@given(TEXTS)
def test_every_job_is_found_by_any_part_of_what_is_seen_of_it(text: str) -> None:
    job = record(args=[text])

    assert text in seen_of(job)
    assert Filter((Term("", text),))(job)
    assert Filter((Term("args", text),))(job)

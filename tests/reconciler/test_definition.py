from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, union

from qik_core import Job, job, registry
from qik_core.errors import DefinitionError
from reconciler import Reconciler, UnknownReconciler, derive
from reconciler.registry import everything, find
from tests.reconciler.shop import Item, Member, items, named

PENDING = select(Item.id).where(Item.state == "pending")


with registry.scope():

    class Plain(Job):
        """Not unique."""

        def perform(self, item_id: int) -> None: ...

    class UntilStart(Job, unique_for=60, unique_until="start"):
        def perform(self, item_id: int) -> None: ...

    class OnItem(Job, unique_for=3600):
        def perform(self, item_id: int) -> None: ...

    class OnMember(Job, unique_for=3600):
        def perform(self, org_id: int, user_id: int) -> None: ...

    class OnNote(Job, unique_for=3600):
        def perform(self, note: str) -> None: ...

    class WithPlan(Job, unique_for=3600):
        def perform(self, item_id: int, rank: int) -> None: ...

    class WithPlanLeftOut(Job, unique_for=3600, unique_args=["item_id"]):
        def perform(self, item_id: int, rank: int) -> None: ...


def define(pending: Any, **options: Any) -> Any:
    return type("Mine", (Reconciler,), {"pending": pending}, **{"every": 60, **options})


@pytest.mark.parametrize(
    ("options", "rule", "remedy"),
    [
        ({"every": 0}, "every", "more than 0"),
        ({"every": -1}, "every", "timedelta"),
        ({"every": None}, "every", "timedelta"),
        ({"every": "1m"}, "every", "timedelta"),
        ({"every": float("nan")}, "every", "timedelta"),
        ({"jitter": 61}, "jitter-at-most-every", "at most 60"),
        ({"jitter": -1}, "option", "timedelta"),
        ({"jitter": float("inf")}, "option", "timedelta"),
        ({"every": 1e15}, "every", "timedelta"),
        ({"every": True}, "every", "timedelta"),
        ({"batch_size": -1}, "option", "1 to 1,000"),
        ({"batch_size": 10**9}, "option", "1 to 1,000"),
        ({"batch_size": "100"}, "option", "1 to 1,000"),
        ({"cron": "0 6 * *", "every": None}, "cron", "five crontab fields"),
        ({"cron": "0 6 * * *"}, "cron", "Leave one of them out"),
        ({"cron": "*/5 * * * *", "every": None, "jitter": 301}, "jitter-at-most-every", "300"),
        ({"fair": 50}, "option", "Fair(...)"),
        ({"database": ""}, "option", "database='billing'"),
        ({"database": object()}, "option", "database='billing'"),
        ({"freshness": "reporting"}, "option", "Freshness(...)"),
        ({"shadow": 1}, "option", "True or False"),
        ({"on_unknown": "maybe"}, "option", "Use 'run' or 'stop'"),
        ({"every": 7200, "jitter": 3600}, "jitter-below-unique-for", "longer unique_for"),
        ({"min_age": 5}, "min-age-needs-age", "age="),
        ({"batch_size": 0}, "option", "1 to 1,000"),
        ({"batch_size": 1001}, "option", "1 to 1,000"),
        ({"batch_size": True}, "option", "1 to 1,000"),
        ({"queue": "no spaces"}, "option", "A-Z"),
        ({"name": "no spaces"}, "name", "A-Z"),
        ({"name": ""}, "name", "A-Z"),
        ({"evry": 5}, "option", "no option 'evry'; did you mean 'every'? There are: backpressure"),
        ({"sidekiq": 5}, "option", "no option 'sidekiq'. There are: backpressure"),
        ({"statement_timeout": 0}, "option", "more than 0"),
        ({"budget": 0}, "option", "more than 0"),
    ],
    ids=named,
)
def test_an_option_that_cannot_work_is_refused_with_class_rule_and_remedy(
    options: dict[str, Any], rule: str, remedy: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        define(derive(OnItem, PENDING), **options)

    assert str(refused.value).startswith(f"Mine [{rule}]: ")
    assert remedy in str(refused.value)


UNION = union(select(Item.id), select(Member.org_id))


declare: Any = derive  # what a type checker would not let through

DECLARATIONS: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: declare(Plain, PENDING), "unique-for", "unique_for="),
    (lambda: declare(UntilStart, PENDING), "unique-until", "unique_until='success'"),
    (lambda: declare(object, PENDING), "job", "class X(Job"),
    (lambda: declare(OnItem, UNION), "query", "subquery"),
    (lambda: declare(OnItem, PENDING.limit(5)), "query", "batch_size"),
    (lambda: declare(OnItem, PENDING.offset(5)), "query", "pages"),
    (lambda: declare(OnItem, PENDING.order_by(Item.id)), "query", "order_by="),
    (lambda: declare(OnItem, PENDING.with_for_update()), "query", "read-only"),
    (lambda: declare(OnItem, select(Item.rank)), "key", "pass key=(...)"),
    (lambda: declare(OnItem, select(Item.rank), key=Item.rank), "key-unique", "(id)"),
    (lambda: declare(OnItem, PENDING, key="id"), "key", "key=Invoice.id"),
    (lambda: declare(OnItem, PENDING, key=()), "key", "key=Invoice.id"),
    (lambda: declare(OnNote, select(Item.note), key=Item.note), "key-unique", "not null"),
    (
        lambda: declare(OnMember, select(Member.user_id, Member.org_id)),
        "labels-swapped",
        "order",
    ),
    (lambda: declare(OnMember, select(Member.org_id)), "key", "primary key (org_id, user_id)"),
    (lambda: declare(OnItem, select(Item.id, Item.rank)), "columns-fit", "args="),
    (lambda: declare(OnNote, PENDING), "columns-fit", "takes str"),
    (lambda: declare(OnNote, select(Item.note), key=Item.id), "columns-fit", "coalesce"),
    (
        lambda: declare(OnItem, select(Item.id).outerjoin_from(Member, Item), key=Item.id),
        "key-unique",
        "not null",
    ),
    (
        lambda: declare(WithPlan, select(Item.id, Item.rank)),
        "key-maps-onto-unique-arguments",
        "['item_id']",
    ),
    (
        lambda: declare(OnItem, select(Member.org_id, Member.user_id), args=lambda row: (row[0],)),
        "key-maps-onto-unique-arguments",
        "another key=",
    ),
    (lambda: declare(OnItem, PENDING, order_by=Item.note), "order-not-null", "coalesce(note"),
    (
        lambda: declare(OnItem, PENDING, order_by=Item.rank.desc().nulls_last()),
        "order-not-null",
        "coalesce",
    ),
    (lambda: declare(OnItem, PENDING, order_by="rank"), "order-not-null", "tuple"),
    (lambda: declare(OnItem, PENDING, version="v"), "option", "version=Invoice.version"),
    (
        lambda: declare(OnItem, PENDING, verison=Item.version),
        "option",
        "no argument of derive() 'verison'; did you mean 'version'? There are: age, args",
    ),
    (lambda: declare(OnItem, PENDING, age=Item.note), "age", "datetime"),
    (lambda: declare(OnItem, PENDING.distinct(), order_by=Item.rank), "query", "Select it"),
    (lambda: "select", "pending", "pending = derive("),
]


@pytest.mark.parametrize(
    ("pending", "rule", "remedy"),
    DECLARATIONS,
    ids=[f"{at}-{rule}" for at, (_, rule, _) in enumerate(DECLARATIONS)],
)
def test_a_declaration_that_cannot_work_is_refused_with_class_rule_and_remedy(
    pending: Any, rule: str, remedy: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        define(pending())

    assert str(refused.value).startswith(f"Mine [{rule}]: ")
    assert remedy in str(refused.value)


def test_a_class_without_pending_is_told_what_to_write() -> None:
    with pytest.raises(DefinitionError, match=r"\[pending\].*derive\("):

        class Empty(Reconciler, every=60): ...


def test_two_reconcilers_of_one_name_are_refused_and_both_are_named() -> None:
    define(derive(OnItem, PENDING), name="same")

    with pytest.raises(DefinitionError, match=r"\[name-clash\].*Other"):

        class Other(Reconciler, every=60, name="same"):
            pending = derive(OnItem, PENDING)


def test_defining_a_class_again_replaces_it() -> None:
    first = items(PENDING, every=60)
    second = items(PENDING, every=30)

    assert find("Items") is second
    assert first.origin == second.origin


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    items(PENDING)

    with pytest.raises(UnknownReconciler, match="there are: Items"):
        find("Itmes")


def test_reconcilers_are_listed_by_name() -> None:
    items(PENDING, name="b")
    items(PENDING, name="a")

    assert [each.name for each in everything()][:1] == ["a"]


def test_durations_may_be_timedeltas_or_seconds() -> None:
    made = items(PENDING, every=timedelta(minutes=2), jitter=30)

    assert (made.every, made.jitter) == (120.0, 30.0)


def test_min_age_is_half_a_minute_once_an_age_is_named_and_nothing_before() -> None:
    assert items(PENDING, age=Item.since).min_age == 30.0
    assert items(PENDING).min_age == 0.0


def test_the_queues_of_a_reconciler_are_its_own_and_its_jobs() -> None:
    assert items(PENDING).queues == ["work"]
    assert items(PENDING, queue="low").queues == ["low", "work"]


def test_an_argument_that_is_not_in_the_lock_need_not_be_in_the_key() -> None:
    made = define(derive(WithPlanLeftOut, select(Item.id, Item.rank)))

    assert made.definition.shape.key == (0,)


def test_a_function_with_job_can_be_reconciled() -> None:
    @job(unique_for=60)
    def touch_item(item_id: int) -> None: ...

    made = define(derive(touch_item, PENDING))

    assert made.definition.facts.name == "touch_item"


def test_a_coalesced_column_may_order_and_be_an_argument() -> None:
    made = define(
        derive(OnItem, PENDING, order_by=(func.coalesce(Item.note, ""), Item.rank.desc()))
    )

    assert [each.descending for each in made.definition.shape.order] == [False, True, False]

"""What is doubted and what is known between two readings of the catalogue."""

from __future__ import annotations

from pgguard.sql.definitions import NOTHING
from pgguard.sql.facts.reading import read
from pgguard.sql.statement import Name
from pgguard.tenancy import news as module
from pgguard.tenancy.news import Definition, News


def sent(news: News, text: str) -> Definition:
    what = read(text.encode()).defined
    assert what is not None
    return news.sent(what)


def test_a_table_is_known_when_its_transaction_is_over() -> None:
    news = News()
    one = sent(news, "CREATE TABLE s.t (id int)")
    assert not news.tables(Name("", "t"))
    news.ended(one, kept=True)
    assert len(news.tables(Name("", "t"))) == 1
    assert len(news.tables(Name("s", "t"))) == 1
    assert not news.tables(Name("other", "t"))


def test_a_table_that_was_undone_is_not_known() -> None:
    news = News()
    news.ended(sent(news, "CREATE TABLE t (id int)"), kept=False)
    assert not news.tables(Name("", "t"))


def test_what_may_have_changed_is_doubted_until_a_reading_has_begun_after_its_end() -> None:
    news = News()
    trigger = sent(news, "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()")
    assert news.relations == {"t"}
    early = news.moment
    news.ended(trigger, kept=True)
    assert not news.read(early)
    assert news.relations == {"t"}
    assert news.read(news.moment)
    assert not news.relations
    assert not news


def test_a_reading_says_nothing_of_ddl_that_is_still_under_way() -> None:
    news = News()
    one = sent(news, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    sent(news, "CREATE DOMAIN d AS int")
    news.ended(one, kept=True)
    assert news.read(news.moment)
    assert not news.functions
    assert news.types == {"d"}


def test_a_table_stays_known_over_a_reading_that_began_before_its_end() -> None:
    news = News()
    one = sent(news, "CREATE TABLE t (id int)")
    other = sent(news, "CREATE TABLE u (id int)")
    news.ended(other, kept=True)
    moment = news.moment
    news.ended(one, kept=True)
    news.read(moment)
    assert news.tables(Name("", "t"))
    assert not news.tables(Name("", "u"))


def test_no_ddl_was_under_way_since() -> None:
    news = News()
    before = news.moment
    one = news.sent(NOTHING)
    during = news.moment
    assert not news.quiet_since(before)
    news.ended(one, kept=True)
    assert not news.quiet_since(before)
    assert not news.quiet_since(during)
    assert news.quiet_since(news.moment)


def test_whoever_asks_is_served_by_a_reading_that_begins_afterwards() -> None:
    news = News()
    began = news.moment
    moment = news.asks()
    news.read(began)
    assert news.known < moment
    news.read(news.moment)
    assert news.known >= moment


def test_too_much_ddl_makes_everything_doubtful() -> None:
    news = News()
    for _ in range(module.MOST + 1):
        news.ended(news.sent(NOTHING), kept=True)
    assert news.anything
    news.read(news.moment)
    assert not news.anything

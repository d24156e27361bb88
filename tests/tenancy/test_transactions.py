"""Tenants of a transaction and tenant settings, with everything that undoes them."""

from __future__ import annotations

from pgguard.tenancy.transactions import Tenants

NAME = "app.tenant_id"
ID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def begun() -> Tenants:
    tenants = Tenants()
    tenants.begin()
    return tenants


def test_two_tenants_of_one_transaction_are_told_once() -> None:
    tenants = begun()
    assert [tenants.crosses([key]) for key in "aababc"] == [False, False, True, False, False, False]
    tenants.end(failed=False)
    tenants.begin()
    assert not tenants.crosses(["b"])


def test_outside_of_a_transaction_nothing_is_collected() -> None:
    tenants = Tenants()
    assert not tenants.crosses(["a"])
    assert not tenants.crosses(["b"])
    assert not tenants.watches


def test_set_local_ends_with_the_transaction() -> None:
    tenants = begun()
    tenants.set(NAME, "a", local=True)
    assert tenants.setting(NAME) == "a"
    tenants.end(failed=False)
    assert tenants.setting(NAME) is None
    assert not tenants.watches


def test_set_stays_after_commit_and_goes_with_rollback() -> None:
    tenants = begun()
    tenants.set(NAME, "a", local=False)
    tenants.end(failed=False)
    assert tenants.setting(NAME) == "a"
    tenants.begin()
    tenants.set(NAME, "b", local=False)
    tenants.end(failed=True)
    assert tenants.setting(NAME) == "a"


def test_a_commit_that_was_a_rollback_takes_the_setting_back() -> None:
    tenants = begun()
    tenants.set(NAME, "a", local=False)
    tenants.end(failed=False)
    tenants.answered(failed=True)
    assert tenants.setting(NAME) is None


def test_rollback_to_undoes_what_was_set_behind_the_savepoint() -> None:
    tenants = begun()
    tenants.set(NAME, "a", local=True)
    tenants.savepoint("s")
    tenants.set(NAME, "b", local=True)
    tenants.rollback_to("s")
    assert tenants.setting(NAME) == "a"
    assert not tenants.crosses(["a"])
    tenants.release("s")
    assert tenants.setting(NAME) == "a"


def test_two_settings_are_two_tenants_and_one_spelling_is_the_other() -> None:
    tenants = begun()
    tenants.set(NAME, ID.upper(), local=True)
    assert not tenants.crosses([ID])
    tenants.set(NAME, "b", local=True)
    assert tenants.crosses(())


def test_an_empty_setting_names_nobody() -> None:
    tenants = Tenants()
    tenants.set(NAME, "a", local=False)
    assert tenants.watches
    tenants.set(NAME, "", local=False)
    assert not tenants.watches
    tenants.set(NAME, "a", local=False)
    tenants.reset_all()
    assert not tenants.watches


def test_set_local_outside_of_a_transaction_does_nothing() -> None:
    tenants = Tenants()
    tenants.set(NAME, "a", local=True)
    assert tenants.setting(NAME) is None


def test_one_more_statement_of_the_same_tenant_says_nothing_new() -> None:
    state = Tenants()
    assert state.also("a")
    assert not state.keys
    state.begin()
    assert state.also("a")
    assert list(state.keys) == ["a"]
    assert state.also("a")
    assert not state.also("b")
    state.end(failed=False)
    state.begin()
    assert state.also("b")


def test_a_setting_of_the_transaction_is_compared_with_its_first_statement() -> None:
    state = Tenants()
    state.begin()
    state.set("app.tenant_id", "a", local=True)
    assert state.has_settings
    assert not state.also("b")

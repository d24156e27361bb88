"""Packages come and go."""

from __future__ import annotations

import catalog

TENANT = 4


def test_the_packages_open_for_everybody_at_once(visit):
    assert visit(catalog.price_index, TENANT) == [1320] * 20


def test_a_new_package_can_be_the_cheapest(connection):
    catalog.add_package(connection, TENANT, "Passport", 15)
    assert catalog.cheapest_package(connection, TENANT) == 15


def test_a_retired_package_is_not_offered(connection):
    number = catalog.add_package(connection, TENANT, "Passport", 15)
    assert catalog.retire_package(connection, TENANT, number) == 1
    assert "Passport" not in catalog.packages(connection, TENANT)

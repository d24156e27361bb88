"""Packages and the start page."""

from __future__ import annotations

import catalog

TENANT = 3


def test_the_price_list_opens_for_everybody_at_once(visit):
    assert visit(catalog.price_index, TENANT) == [1320] * 20


def test_the_catalogue_is_the_tenants_own(connection):
    assert catalog.packages(connection, TENANT) == ["Portrait 3", "Product 3", "Wedding 3"]


def test_the_start_page_shows_the_portrait(connection):
    assert "Portrait 3" in catalog.featured_packages(connection)

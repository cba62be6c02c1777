"""Shared by all tests: one browser per run, property tests that always draw the same examples."""

import sys

import pytest
from hypothesis import settings

settings.register_profile("book", derandomize=True, deadline=None, database=None)
settings.load_profile("book")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, started once."""
    from playwright.sync_api import sync_playwright

    from tools.browser import launch

    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    """Close what a test has drawn, so that figures do not pile up in a long run."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")

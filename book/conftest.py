"""How nbval compares: printed text, never rich HTML, drawings or warnings of this machine."""


def pytest_collectstart(collector):
    """nbval's own hook for a notebook: leave out what differs without a difference in meaning."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("text/html", "image/svg+xml", "image/gif", "stderr")

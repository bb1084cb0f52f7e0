"""Placeholder."""


def write(app, config):
    """Nothing yet."""

"""Answers about objects: tables, with what is known of their image."""

from opsef_bridge.analysis.tables import channel_endings, measured_channels, object_table

__all__ = ["channel_endings", "measured_channels", "object_table"]

"""Koinonia's messaging: turns "this text to these people" into recipient chunks.

It owns branches, groups, members, templates, messages, recurring messages and the dashboard's read models. When a
message is due it asks billing for leave, then streams the audience to delivery in chunks of distinct numbers. It keeps
each message's counters from what delivery reports.
"""

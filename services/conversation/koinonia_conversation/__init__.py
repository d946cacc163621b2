"""Koinonia's conversation: the two-way inbox.

It owns conversations and their messages, with projections of contacts and numbers. It threads what people text to a
church and what the church answers, and counts what is unread. A reply leaves it as an event that delivery sends.
"""

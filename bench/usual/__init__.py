"""The usual ways, to compare with: Celery with a task per recipient, and a row and a send at a time.

Both have a table of recipients, whose rows become ``sent`` with the carrier's answer, each by an UPDATE of its own, and
``delivered`` by a webhook's: the same receiver does that for both.
"""

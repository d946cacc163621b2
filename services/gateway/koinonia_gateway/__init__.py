"""Koinonia's gateway: the only public door.

It owns churches, admins, sessions, MFA and API keys. It authenticates, limits and checks every request, forwards it to
the service that owns its path, and takes in the webhooks of the carrier and of Stripe. It also serves the API's pages,
live progress and the health of the whole platform.
"""

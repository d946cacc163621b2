"""Koinonia's billing: who may send how much, and what it costs.

It owns plans, subscriptions, reservations, the usage ledger, invoices and payments. It authorizes a broadcast before it
is sent, and meters each recipient once, when the carrier is first known to have accepted it. It alone talks to Stripe.
"""

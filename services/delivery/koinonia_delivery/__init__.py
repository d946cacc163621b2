"""Koinonia's delivery: brings each text to the carrier once, and keeps what became of it.

It owns recipients, the work still to be done for them and the phone numbers, with projections of suppressions, of holds
and of members' consents. Its workers, a process of their own, claim recipients under a lease and call the carrier
within each number's rate. It applies delivery receipts in batches, by rank.
"""

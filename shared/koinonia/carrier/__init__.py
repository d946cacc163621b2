"""The carrier: what we ask of one, Telnyx, its webhooks, and the simulated carrier that speaks as Telnyx does."""

"""Koinonia's compliance: the law.

It owns consent, opt-outs, the audit log, exports and erasures. It judges every inbound text (STOP, START, HELP and what
people really write) and says who must not be texted. It leads exports and erasures through all services, and stores
every audit event.
"""

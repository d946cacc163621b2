"""Compliance's routes: the audit log."""

from collections.abc import Mapping

from koinonia.api import Endpoint, audit
from koinonia.api.audit import AuditEntry, AuditQuery
from koinonia.api.common import Page
from koinonia.db import Transaction
from koinonia.web import Call, Handler
from koinonia_compliance import audit_log


async def list_audit_log(call: Call[None, AuditQuery], tx: Transaction) -> Page[AuditEntry]:
    """What was done in the church, newest first."""
    return await audit_log.list_page(tx, call.query)


HANDLERS: Mapping[Endpoint, Handler] = {audit.LIST: Handler(list_audit_log)}

"""Why somebody got a text, or did not."""

from collections.abc import Mapping

from koinonia.api import Endpoint, NoQuery, messages
from koinonia.api.messages import Trail
from koinonia.web import Call, Handler
from koinonia_gateway.trail import Trails


def handlers(trails: Trails) -> Mapping[Endpoint, Handler]:
    """The handler by endpoint; it asks other services, and so opens its transaction itself."""

    async def show(call: Call[None, NoQuery]) -> Trail:
        return await trails.show(call.identity, call.path["id"], call.path["recipientId"])

    return {messages.RECIPIENT_TRAIL: Handler(show, transaction=False)}

"""Delivery's wiring: the one place that knows all of its parts."""

from pathlib import Path

from koinonia import settings as process_settings
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.db.archives import Archives
from koinonia.files import FileSettings, open_files
from koinonia.service import Parts, ServiceDefinition
from koinonia_delivery.doubts import Doubts
from koinonia_delivery.events import subscriptions
from koinonia_delivery.http import Handlers
from koinonia_delivery.messages import Bells
from koinonia_delivery.provisioning import Provisioning
from koinonia_delivery.receipts import Receipts
from koinonia_delivery.schedule import loops
from koinonia_delivery.settings import DeliverySettings

CARRIER_CALLS = 20


def build(parts: Parts[DeliverySettings]) -> ServiceDefinition:
    """The service: rows in, receipts applied, numbers ordered, doubts settled, tests answered. Its workers send."""
    settings, bells = parts.settings, Bells()
    carrier = TelnyxCarrier(settings.telnyx_api_url, settings.telnyx_api_key, concurrency=CARRIER_CALLS)
    receipts = Receipts(settings.receipt_deadline)
    doubts = Doubts(parts.database, carrier, parts.keys, receipts, settings)
    provisioning = Provisioning(parts.database, carrier, settings)
    files = open_files(
        process_settings.load(FileSettings), Path(".run/files"), encrypted=settings.environment == "production"
    )
    archives = Archives(files, settings.database_direct_url or settings.database_url)
    return ServiceDefinition(
        handlers=Handlers(parts.keys, parts.database).by_endpoint(),
        subscriptions=subscriptions(receipts, bells),
        loops=loops(
            parts.database,
            parts.life,
            provisioning,
            doubts,
            receipts,
            archives=archives,
            keys=parts.keys,
            bells=bells,
        ),
        close=carrier.close,
    )

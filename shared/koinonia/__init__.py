"""What Koinonia's services share: events, bus, database, HTTP, privacy, telemetry. It imports no service."""

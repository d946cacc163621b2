"""SQL of delivery, a noun per file. Locks are taken in one order everywhere, so that nothing deadlocks.

1. clocks of numbers (skipped where locked), 2. churches' advisory locks, 3. broadcasts, 4. rows of work in the order of
their ids, 5. rows of recipients in the order of their ids, 6. suppressions and holds. Settling touches clocks last,
which is safe because a claim, which alone holds clocks for longer, never waits for work.
"""

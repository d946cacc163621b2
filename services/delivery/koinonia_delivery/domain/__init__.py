"""Rules of delivery without I/O: states and their order, fair choice within each number's rate, how calls end."""

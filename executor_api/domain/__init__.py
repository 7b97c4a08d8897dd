"""What things are and what follows from what. Pure: no asyncio, no clock, no I/O."""

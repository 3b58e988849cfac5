"""Cases with known answers, and what feeds them to the engine."""

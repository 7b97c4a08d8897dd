"""Who may call, and what: ways to tell callers, the door that asks them, and what each route needs."""

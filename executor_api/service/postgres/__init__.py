"""The store in PostgreSQL, for several replicas. An extra: nothing else imports it but the composition root."""

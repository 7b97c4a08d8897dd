"""HTTP edge: routes, schemas, problems, authentication."""

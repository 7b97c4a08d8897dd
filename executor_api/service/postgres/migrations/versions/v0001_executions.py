"""Executions, their requests and events, and the replicas that drive them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_SCHEMA = """
CREATE TABLE executions (
    id text COLLATE "C" PRIMARY KEY,
    tenant text NOT NULL,
    status text NOT NULL,
    reason text,
    template text NOT NULL,
    labels jsonb NOT NULL,
    created_at double precision NOT NULL,
    finished_at double precision,
    size bigint NOT NULL,
    key text,
    owner text,
    cancelled boolean NOT NULL DEFAULT false,
    record bytea NOT NULL,
    UNIQUE (tenant, key)
);
CREATE INDEX executions_by_tenant ON executions (tenant, id);
CREATE INDEX executions_by_status ON executions (tenant, status, id);
CREATE INDEX executions_by_label ON executions USING gin (labels jsonb_path_ops) WHERE labels <> '{}';
CREATE INDEX executions_unfinished ON executions (id) WHERE finished_at IS NULL;
CREATE INDEX executions_finished ON executions (finished_at, size) WHERE finished_at IS NOT NULL;

CREATE TABLE requests (
    execution_id text COLLATE "C" PRIMARY KEY REFERENCES executions ON DELETE CASCADE,
    request bytea NOT NULL
);

CREATE TABLE events (
    execution_id text COLLATE "C" NOT NULL REFERENCES executions ON DELETE CASCADE,
    number integer NOT NULL,
    kind text NOT NULL,
    data bytea NOT NULL,
    journal_offset bigint,
    PRIMARY KEY (execution_id, number)
);

CREATE TABLE replicas (
    id text PRIMARY KEY,
    seen timestamptz NOT NULL
);

CREATE TABLE identity (
    owner text NOT NULL
);
INSERT INTO identity VALUES (replace(gen_random_uuid()::text, '-', ''));
"""
# A request may have megabytes and never changes, a record is small and changes often: hence two tables.
# Executions are never ordered by a locale's rules: ids sort by their bytes, as everywhere else.


def upgrade() -> None:
    """Make the tables."""
    op.execute(_SCHEMA)

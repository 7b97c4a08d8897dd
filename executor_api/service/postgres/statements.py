"""The SQL. Each statement is one round trip and one transaction, and may be repeated after its answer was lost."""

from __future__ import annotations

from sqlalchemy import text

CHANGED = "executor_changed"
"""Channel for those who wait for an execution that another replica drives."""
FOR_DRIVER = "executor_for_driver"
"""Channel for whoever drives it."""

_GIVEN_EVENTS = """unnest(
        CAST(:numbers AS integer[]), CAST(:kinds AS text[]), CAST(:datas AS bytea[]), CAST(:offsets AS bigint[])
    ) AS event"""
CREATE = text(f"""
WITH made AS (
    INSERT INTO executions
        (id, tenant, status, reason, template, labels, created_at, finished_at, size, key, owner, record)
    VALUES (:id, :tenant, :status, :reason, :template, CAST(:labels AS jsonb), :created_at, :finished_at, :size, :key,
        :owner, :record)
    ON CONFLICT DO NOTHING
    RETURNING id
), asked AS (
    INSERT INTO requests SELECT id, CAST(:request AS bytea) FROM made
), told AS (
    INSERT INTO events SELECT made.id, event.* FROM made, {_GIVEN_EVENTS}
)
SELECT id FROM made
""")  # noqa: S608 - a constant

BY_ID = text(
    "SELECT record, request, cancelled FROM executions JOIN requests ON execution_id = id"
    " WHERE id = :id AND tenant = coalesce(CAST(:tenant AS text), tenant)"
)
BY_KEY = text(
    "SELECT record, request, cancelled FROM executions JOIN requests ON execution_id = id"
    " WHERE tenant = :tenant AND key = :key"
)
OWNER = text("SELECT owner FROM executions WHERE id = :id")

# The row is locked for the owner first: only then do the events count, and only those that were not there yet.
_EVENTS = f"""
WITH mine AS (
    SELECT id FROM executions WHERE id = :id AND owner = :owner FOR UPDATE
), added AS (
    INSERT INTO events
    SELECT mine.id, event.* FROM mine, {_GIVEN_EVENTS}
    ON CONFLICT DO NOTHING
    RETURNING length(data) AS bytes
)"""  # noqa: S608 - a constant
SAVE = text(
    _EVENTS  # noqa: S608 - both are constants
    + """, changed AS (
    UPDATE executions SET status = :status, reason = :reason, finished_at = :finished_at,
        size = size - length(record) - coalesce(length(listed), 0) + :bytes
            + (SELECT coalesce(sum(added.bytes), 0) FROM added),
        record = :record, listed = :listed
    FROM mine WHERE executions.id = mine.id
    RETURNING executions.id
)
SELECT pg_notify('executor_changed', id) FROM changed
"""
)
APPEND = text(
    _EVENTS  # noqa: S608 - both are constants
    + """, changed AS (
    UPDATE executions SET size = size + (SELECT coalesce(sum(added.bytes), 0) FROM added)
    FROM mine WHERE executions.id = mine.id
    RETURNING executions.id
)
SELECT pg_notify('executor_changed', id) FROM changed
"""
)

EVENTS_AFTER = text(
    "SELECT number, kind, data, journal_offset FROM events WHERE execution_id = :id AND number > :after"
    " ORDER BY number LIMIT CAST(:most AS bigint)"
)

PRUNE_LOCK = text("SELECT pg_try_advisory_lock(7236833)")  # any number that nothing else locks by
PRUNE_UNLOCK = text("SELECT pg_advisory_unlock(7236833)")
DELETE_OLD = text("""
DELETE FROM executions WHERE id IN (
    SELECT id FROM executions WHERE finished_at < :finished_before ORDER BY finished_at LIMIT :most
)
RETURNING size
""")
BYTES_BY_TENANT = text(
    "SELECT tenant, CAST(sum(size) AS bigint) FROM executions WHERE finished_at IS NOT NULL GROUP BY tenant"
)
DELETE_OLDEST = text("""
WITH oldest AS (
    SELECT id, sum(size) OVER (ORDER BY finished_at, id) - size AS older FROM (
        SELECT id, finished_at, size FROM executions WHERE tenant = :tenant AND finished_at IS NOT NULL
        ORDER BY finished_at, id LIMIT :most
    ) AS candidates
)
DELETE FROM executions USING oldest WHERE executions.id = oldest.id AND oldest.older < :enough
RETURNING executions.size
""")

BEAT = text("""
WITH forgotten AS (DELETE FROM replicas WHERE seen < clock_timestamp() - interval '1 day' AND id <> :owner)
INSERT INTO replicas VALUES (:owner, clock_timestamp()) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen
""")
ALIVE = text("""
SELECT count(*) FILTER (WHERE id < :owner), count(*) FROM replicas
WHERE id = :owner OR seen > clock_timestamp() - make_interval(secs => :silent)
""")
TAKE_OVER = text("""
WITH taken AS (
    UPDATE executions SET owner = :owner WHERE id IN (
        SELECT id FROM executions WHERE finished_at IS NULL AND CASE
            WHEN owner = :owner THEN created_at < :before AND NOT id = ANY(CAST(:known AS text[]))
            ELSE NOT EXISTS (SELECT FROM replicas WHERE replicas.id = executions.owner
                AND seen > clock_timestamp() - make_interval(secs => :silent))
            END
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, record, cancelled
)
SELECT record, request, cancelled, pg_notify('executor_changed', id), pg_notify('executor_for_driver', id)
FROM taken JOIN requests ON execution_id = id ORDER BY id
""")
ORDERS = text(
    "SELECT id, owner IS DISTINCT FROM :owner FROM executions"
    " WHERE id = ANY(CAST(:driven AS text[])) AND (owner IS DISTINCT FROM :owner OR cancelled)"
)
REQUEST_CANCEL = text("""
WITH asked AS (UPDATE executions SET cancelled = true WHERE id = :id AND finished_at IS NULL RETURNING id)
SELECT pg_notify('executor_changed', id), pg_notify('executor_for_driver', id) FROM asked
""")
LET_GO = text("""
WITH gone AS (DELETE FROM replicas WHERE id = :owner)
UPDATE executions SET owner = NULL WHERE owner = :owner AND finished_at IS NULL
""")

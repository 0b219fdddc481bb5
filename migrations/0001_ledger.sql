-- The ledger: what is on offer, who got a unit, and how far the relay has come.

create type coupon_status as enum ('STANDARD', 'AVAILABLE', 'ISSUED', 'EXPIRED');
create type coupon_mode as enum ('QUEUE', 'INSTANT');

comment on type coupon_status is
    'STANDARD: defined, not on offer. AVAILABLE: can be requested and issued. ISSUED: all units are granted. EXPIRED: ended.';
comment on type coupon_mode is
    'QUEUE: a request waits for the next issue. INSTANT: the request itself takes a unit while there are any.';

create table coupon (
    id                 text          not null,
    name               text          not null,
    quantity           bigint        not null,
    status             coupon_status not null default 'STANDARD',
    mode               coupon_mode   not null default 'QUEUE',
    waitlist           bigint        not null default 0,
    opens_at           timestamptz,
    expires_at         timestamptz,
    granted            bigint        not null default 0,
    epoch              bigint        not null default 0,
    seq                bigint        not null default 0,
    chain              bigint        not null default 0,
    revision           bigint        not null default 1,
    published_revision bigint        not null default 0,
    created_at         timestamptz   not null default now(),
    updated_at         timestamptz   not null default now(),

    constraint coupon_pkey primary key (id),
    constraint coupon_id_is_1_to_512_bytes check (octet_length(id) between 1 and 512),
    -- The limits of the module, so that whatever a row says can be published.
    constraint coupon_quantity_is_1_to_1e9 check (quantity between 1 and 1000000000),
    constraint coupon_waitlist_is_0_to_1e9 check (waitlist between 0 and 1000000000),
    constraint coupon_opens_at_is_in_range check (
        opens_at >= timestamptz '1970-01-01 00:00:00+00' and opens_at < timestamptz '10000-01-01 00:00:00+00'),
    constraint coupon_expires_at_is_in_range check (
        expires_at >= timestamptz '1970-01-01 00:00:00.001+00' and expires_at < timestamptz '10000-01-01 00:00:00+00'),
    -- Redis counts milliseconds: a window shorter than one would be empty there.
    constraint coupon_window_is_not_empty check (expires_at >= opens_at + interval '1 millisecond'),
    constraint coupon_granted_within_quantity check (granted <= quantity),
    constraint coupon_granted_is_not_negative check (granted >= 0),
    -- A grant that PostgreSQL refused takes a number too, and is no row.
    constraint coupon_granted_within_seq check (granted <= seq),
    constraint coupon_epoch_is_not_negative check (epoch >= 0),
    constraint coupon_published_within_revision check (published_revision between 0 and revision)
)
-- Every batch updates its coupon's row. No index holds a column that it changes, so with room on the page the
-- update stays there and touches no index.
with (fillfactor = 50);

comment on table coupon is
    'What is on offer. An application inserts id, name, quantity and status, and may change the definition later; the reconciler publishes it to Redis.';
comment on column coupon.id is 'Stands in the place of ID in the coupon''s Redis key, by default coupon:{ID}.';
comment on column coupon.name is 'For people.';
comment on column coupon.quantity is 'Units in all.';
comment on column coupon.status is 'Where the coupon is in its life. Set AVAILABLE to put it on offer, EXPIRED to end it.';
comment on column coupon.mode is 'When a request is decided.';
comment on column coupon.waitlist is 'Users who may wait beyond the quantity.';
comment on column coupon.opens_at is 'Requests begin; null for at once. Counted in milliseconds.';
comment on column coupon.expires_at is 'Requests end; null for never. Counted in milliseconds.';
comment on column coupon.granted is 'Rows in user_coupon. Written by the reconciler.';
comment on column coupon.epoch is 'Number of the coupon''s life under one history of Redis. Written by the reconciler.';
comment on column coupon.seq is 'The newest grant in the ledger, dead letters included. Written by the reconciler.';
comment on column coupon.chain is 'Digest of all grants up to seq. Written by the reconciler.';
comment on column coupon.revision is 'Counts the changes of the definition. Written by the trigger.';
comment on column coupon.published_revision is 'The revision that Redis has; the definition is newer where it differs. Written by the reconciler.';

-- For the reconciler's slow pass over what is on offer or not published yet.
create index coupon_to_reconcile on coupon (id)
    where status in ('AVAILABLE', 'ISSUED') or revision <> published_revision;

create table user_coupon (
    coupon_id    text        not null,
    user_id      text        not null,
    seq          bigint      not null,
    requested_at timestamptz not null,
    granted_at   timestamptz not null,
    epoch        bigint      not null,
    chain        bigint      not null,

    constraint user_coupon_one_per_seq primary key (coupon_id, seq),
    constraint user_coupon_one_per_user unique (coupon_id, user_id),
    constraint user_coupon_of_a_coupon foreign key (coupon_id) references coupon (id),
    constraint user_coupon_user_id_is_1_to_128_bytes check (octet_length(user_id) between 1 and 128),
    constraint user_coupon_seq_is_positive check (seq >= 1),
    constraint user_coupon_epoch_is_not_negative check (epoch >= 0)
);

comment on table user_coupon is 'The grants: one row for each unit that a user got. Rows are only ever added.';
comment on column user_coupon.seq is 'Number of the grant, 1 for the first, without gaps but for dead letters.';
comment on column user_coupon.requested_at is 'When Redis accepted the request, to the microsecond; strictly increasing with seq.';
comment on column user_coupon.granted_at is 'When Redis granted it, to the millisecond.';
comment on column user_coupon.epoch is 'Epoch of the stream entry; with seq it is the entry''s ID.';
comment on column user_coupon.chain is
    'First 8 bytes, as a signed integer, of SHA-256(chain before | length of user_id | user_id | requested_at in µs); integers are 8 bytes, big-endian; 0 before the first grant.';

create table coupon_dead_letter (
    coupon_id    text        not null,
    seq          bigint      not null,
    user_id      text        not null,
    requested_at timestamptz not null,
    granted_at   timestamptz not null,
    epoch        bigint      not null,
    chain        bigint      not null,
    sqlstate     text        not null,
    reason       text        not null,
    created_at   timestamptz not null default now(),

    constraint coupon_dead_letter_pkey primary key (coupon_id, seq),
    constraint coupon_dead_letter_of_a_coupon foreign key (coupon_id) references coupon (id)
);

comment on table coupon_dead_letter is
    'Grants that PostgreSQL refused as rows of user_coupon, for a constraint or a trigger of the application; each keeps its number and its link of the chain, and its followers were not held up.';
comment on column coupon_dead_letter.sqlstate is 'The error''s SQLSTATE.';
comment on column coupon_dead_letter.reason is 'The error''s text.';

-- Runs where an application writes a definition. The reconciler's own writes of these columns move the revision
-- themselves, so they are not announced as news.
create function coupon_redefined() returns trigger
    language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        new.revision := old.revision + 1;
        new.updated_at := now();
        -- More units than were granted: on offer again.
        if new.status = 'ISSUED' and old.status = 'ISSUED' and new.quantity > old.quantity and new.quantity > new.seq then
            new.status := 'AVAILABLE';
        end if;
    end if;
    perform pg_notify('coupon', new.id);
    return new;
end
$$;

comment on function coupon_redefined() is 'Counts a changed definition and tells the reconciler, on channel coupon, with the coupon''s id.';

create trigger coupon_inserted before insert on coupon
    for each row when (new.revision <> new.published_revision)
    execute function coupon_redefined();

create trigger coupon_redefined before update on coupon
    for each row when (
        new.revision = old.revision
        and (new.quantity, new.status, new.mode, new.waitlist, new.opens_at, new.expires_at)
            is distinct from (old.quantity, old.status, old.mode, old.waitlist, old.opens_at, old.expires_at))
    execute function coupon_redefined();

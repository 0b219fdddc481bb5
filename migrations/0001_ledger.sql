-- The ledger: what is on offer, who got a unit, and how far the relay has come.
--
-- Two hands write here, each its own tables: an application writes coupon (and, of user_coupon, what becomes of a unit),
-- the reconciler writes the rest. Ids are compared byte by byte (collate "C"): no upgrade of a locale can break an index
-- of theirs, and comparing them costs the least. In each table what has a fixed width comes first, so that nothing is
-- lost between columns.

create type coupon_status as enum ('STANDARD', 'AVAILABLE', 'ISSUED', 'EXPIRED');
create type coupon_mode as enum ('QUEUE', 'INSTANT');

comment on type coupon_status is
    'STANDARD: defined, not on offer: not yet, or taken off for now. AVAILABLE: can be requested and issued. ISSUED: all units are granted. EXPIRED: ended.';
comment on type coupon_mode is
    'QUEUE: a request waits for the next issue. INSTANT: the request itself takes a unit while there are any.';

-- The application's.

create table coupon (
    quantity   bigint           not null,
    waitlist   bigint           not null default 0,
    opens_at   timestamptz,
    expires_at timestamptz,
    created_at timestamptz      not null default now(),
    updated_at timestamptz      not null default now(),
    hold       interval,
    status     coupon_status    not null default 'STANDARD',
    mode       coupon_mode      not null default 'QUEUE',
    id         text collate "C" not null,
    name       text             not null,

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
    -- Nothing ends a hold yet, and one that is believed in and does nothing would be worse than none.
    constraint coupon_hold_is_not_to_be_had_yet check (hold is null)
);

comment on table coupon is
    'What is on offer, the application''s to write: it inserts id, name, quantity and status, and may change the definition later; the reconciler publishes it to Redis, and writes here what changes there.';
comment on column coupon.id is 'Stands in the place of ID in the coupon''s Redis key, by default coupon:{ID}.';
comment on column coupon.name is 'For people.';
comment on column coupon.quantity is 'Units in all.';
comment on column coupon.status is 'Where the coupon is in its life. Set AVAILABLE to put it on offer, EXPIRED to end it.';
comment on column coupon.mode is 'When a request is decided.';
comment on column coupon.waitlist is 'Users who may wait beyond the quantity.';
comment on column coupon.opens_at is 'Requests begin; null for at once. Counted in milliseconds.';
comment on column coupon.expires_at is 'Requests end; null for never. Counted in milliseconds.';
comment on column coupon.hold is 'The time in which a grant has to be confirmed; null for no such time.';

-- For the reconciler's slow pass over what is on offer.
create index coupon_on_offer on coupon (id) where status in ('AVAILABLE', 'ISSUED');

-- The reconciler's.

create table coupon_position (
    epoch           bigint           not null default 0,
    seq             bigint           not null default 0,
    chain           bigint           not null default 0,
    granted         bigint           not null default 0,
    released        bigint           not null default 0,
    release_chain   bigint           not null default 0,
    revision        bigint           not null default 0,
    told_quantity   bigint           not null,
    told_waitlist   bigint           not null,
    told_opens_at   timestamptz,
    told_expires_at timestamptz,
    retired_at      timestamptz,
    told_status     coupon_status    not null,
    told_mode       coupon_mode      not null,
    coupon_id       text collate "C" not null,

    constraint coupon_position_pkey primary key (coupon_id),
    constraint coupon_position_of_a_coupon foreign key (coupon_id) references coupon (id),
    constraint coupon_position_held_within_quantity check (seq - released <= told_quantity),
    constraint coupon_position_released_within_seq check (released between 0 and seq),
    -- A grant that PostgreSQL refused takes a number too, and is no row.
    constraint coupon_position_granted_within_seq check (granted between 0 and seq),
    constraint coupon_position_epoch_is_not_negative check (epoch >= 0),
    constraint coupon_position_revision_is_not_negative check (revision >= 0)
)
-- Every batch updates its coupon's row. No index holds a column that it changes, so with room on the page the
-- update stays there and touches no index.
with (fillfactor = 50);

comment on table coupon_position is
    'How far each coupon''s grants are in the ledger, and the definition that Redis was told last. Written by the reconciler alone: a position moves only together with the rows that it stands for.';
comment on column coupon_position.epoch is 'Number of the coupon''s life under one history of Redis.';
comment on column coupon_position.seq is 'The newest grant in the ledger, dead letters included.';
comment on column coupon_position.chain is 'Digest of all grants up to seq.';
comment on column coupon_position.granted is 'Rows in user_coupon, those of released units included.';
comment on column coupon_position.released is 'Units that came back and are numbered.';
comment on column coupon_position.release_chain is 'Digest of all releases up to released.';
comment on column coupon_position.revision is 'Counts the definitions that were published; Redis refuses an older one than it has.';
comment on column coupon_position.told_quantity is
    'As in coupon, as Redis was told it last. It is raised before Redis hears of more units, and lowered after Redis has heard of fewer.';
comment on column coupon_position.retired_at is 'When the coupon''s keys left Redis for good.';

create index coupon_position_on_offer on coupon_position (coupon_id) where told_status in ('AVAILABLE', 'ISSUED');

-- No foreign key of its own: its check of every row would cost a third of the relay. Rows are written only in the statement that
-- moves the coupon's position, and that has one.
create table user_coupon (
    seq          bigint           not null,
    chain        bigint           not null,
    epoch        bigint           not null,
    requested_at timestamptz      not null,
    granted_at   timestamptz      not null,
    hold_until   timestamptz,
    confirmed_at timestamptz,
    released_at  timestamptz,
    release_no   bigint,
    coupon_id    text collate "C" not null,
    user_id      text collate "C" not null,

    -- With the coupon first in each index a coupon's entries lie together, and the relay is as fast in a large table as in a
    -- small one.
    constraint user_coupon_one_per_seq primary key (coupon_id, seq),
    constraint user_coupon_user_id_is_1_to_128_bytes check (octet_length(user_id) between 1 and 128),
    constraint user_coupon_seq_is_positive check (seq >= 1),
    constraint user_coupon_epoch_is_not_negative check (epoch >= 0),
    constraint user_coupon_release_no_is_of_a_release check (release_no is null or released_at is not null)
)
-- The table only grows, a sale at a time: what is new is made visible to index-only scans, and frozen, before the next one,
-- and never by a scan of all of it.
with (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 500000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 500000
);

create unique index user_coupon_one_per_user on user_coupon (coupon_id, user_id) where released_at is null;
create index user_coupon_to_number on user_coupon (coupon_id) where released_at is not null and release_no is null;
create unique index user_coupon_one_per_release on user_coupon (coupon_id, release_no) where release_no is not null;
create index user_coupon_on_hold on user_coupon (hold_until)
    where hold_until is not null and confirmed_at is null and released_at is null;

comment on table user_coupon is 'The grants: one row for each unit that a user got.';
comment on column user_coupon.seq is 'Number of the grant, 1 for the first, without gaps but for dead letters.';
comment on column user_coupon.requested_at is 'When Redis accepted the request, to the microsecond; strictly increasing with seq.';
comment on column user_coupon.granted_at is 'When Redis granted it, to the millisecond.';
comment on column user_coupon.epoch is 'Epoch of the stream entry; with seq it is the entry''s ID.';
comment on column user_coupon.chain is
    'First 8 bytes, as a signed integer, of SHA-256(chain before | length of user_id | user_id | requested_at in µs); integers are 8 bytes, big-endian; 0 before the first grant.';
comment on column user_coupon.hold_until is 'Until when the unit waits for its confirmation; null for no such time.';
comment on column user_coupon.confirmed_at is 'When the unit was confirmed.';
comment on column user_coupon.released_at is 'When the unit was given back; once and for good.';
comment on column user_coupon.release_no is 'Number of the release, 1 for the first of the coupon, without gaps.';

-- What is the reconciler's hangs on the position, and not on the application's row: a check that waits for who holds that would hold
-- up the relay.
create table coupon_dead_letter (
    seq          bigint           not null,
    chain        bigint           not null,
    epoch        bigint           not null,
    requested_at timestamptz      not null,
    granted_at   timestamptz      not null,
    created_at   timestamptz      not null default now(),
    discarded_at timestamptz,
    released_at  timestamptz,
    release_no   bigint,
    coupon_id    text collate "C" not null,
    user_id      text collate "C" not null,
    sqlstate     text             not null,
    reason       text             not null,

    constraint coupon_dead_letter_pkey primary key (coupon_id, seq),
    constraint coupon_dead_letter_of_a_coupon foreign key (coupon_id) references coupon_position (coupon_id)
);

comment on table coupon_dead_letter is
    'Grants that PostgreSQL refused as rows of user_coupon, for a constraint or a trigger of the application; each keeps its number and its link of the chain, and its followers were not held up.';
comment on column coupon_dead_letter.sqlstate is 'The error''s SQLSTATE.';
comment on column coupon_dead_letter.reason is 'The error''s text.';
comment on column coupon_dead_letter.discarded_at is
    'When an operator gave the grant up; null while it waits to be retried. The row stays, as the chain runs through it.';

create table coupon_orphan (
    seq          bigint           not null,
    chain        bigint           not null,
    epoch        bigint           not null,
    requested_at timestamptz      not null,
    granted_at   timestamptz      not null,
    found_at     timestamptz      not null default now(),
    coupon_id    text collate "C" not null,
    user_id      text collate "C" not null,
    reason       text             not null,

    -- The same user can be granted in more than one history.
    constraint coupon_orphan_pkey primary key (coupon_id, user_id, chain),
    constraint coupon_orphan_of_a_coupon foreign key (coupon_id) references coupon_position (coupon_id),
    constraint coupon_orphan_user_id_is_1_to_128_bytes check (octet_length(user_id) between 1 and 128),
    constraint coupon_orphan_seq_is_positive check (seq >= 1)
);

comment on table coupon_orphan is
    'Grants that a Redis made in a history which is not the ledger''s: an old primary after a failover, or a coupon opened by hand in the place of a lost one. Each user was told of a unit, and the unit counts as not granted; the user is back in line, or has been granted since. Rows are only ever added.';
comment on column coupon_orphan.seq is 'Its number in that history; the ledger has another grant of this number, or none.';
comment on column coupon_orphan.requested_at is 'When that Redis accepted the request.';
comment on column coupon_orphan.granted_at is 'When that Redis granted it; the time of the request where its entry was trimmed.';
comment on column coupon_orphan.chain is 'Digest of that history up to this grant.';
comment on column coupon_orphan.reason is 'How far both histories go together.';

create table coupon_instance (
    until timestamptz      not null,
    name  text collate "C" not null,

    constraint coupon_instance_pkey primary key (name),
    constraint coupon_instance_name_is_1_to_255_bytes check (octet_length(name) between 1 and 255)
);

comment on table coupon_instance is 'Reconcilers that run. Each writes its row twice a second; one that was killed is gone when its time is over.';
comment on column coupon_instance.until is 'Until when its leases hold, by this server''s clock.';

create table coupon_redis (
    until  timestamptz      not null,
    is_one boolean          not null default true,
    token  text collate "C" not null,
    place  text collate "C" not null,

    constraint coupon_redis_pkey primary key (is_one),
    constraint coupon_redis_is_one check (is_one)
);

comment on table coupon_redis is
    'The Redis that this ledger belongs to: reconcilers that are connected to another one work on nothing.';
comment on column coupon_redis.until is 'Until when no other may take its place, by this server''s clock.';
comment on column coupon_redis.token is 'What is written in that Redis.';
comment on column coupon_redis.place is 'Where it is, for people.';

create table coupon_lease (
    shard    smallint not null,
    instance text collate "C",

    constraint coupon_lease_pkey primary key (shard),
    constraint coupon_lease_shard_is_0_to_63 check (shard between 0 and 63)
);

comment on table coupon_lease is
    'Which reconciler works on which coupons: 64 shards, by a hash of the coupon''s id. Leases only keep two from doing the same work; that nothing is written twice is the position''s compare-and-set.';
comment on column coupon_lease.instance is 'Who holds it, as long as its row in coupon_instance says; null for nobody.';

insert into coupon_lease (shard) select generate_series(0, 63);

-- Tells the reconciler at once. What it decides by is the row itself, compared with what Redis was told: a change that this
-- trigger does not see is found by the next full pass.
create function coupon_changed() returns trigger
    language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        new.updated_at := now();
    end if;
    perform pg_notify('coupon', new.id);
    return new;
end
$$;

comment on function coupon_changed() is 'Tells the reconciler of a new or changed definition, on channel coupon, with the coupon''s id.';

create trigger coupon_inserted before insert on coupon
    for each row execute function coupon_changed();

create trigger coupon_changed before update on coupon
    for each row when (
        (new.quantity, new.status, new.mode, new.waitlist, new.opens_at, new.expires_at, new.hold)
            is distinct from (old.quantity, old.status, old.mode, old.waitlist, old.opens_at, old.expires_at, old.hold))
    execute function coupon_changed();

-- A row counts as it was granted, or not at all: where rows are missing, or are others, nothing of the statement is left that asks. It
-- only compares, so it is for everybody.
create function coupon_expect(place text, came_in bigint, granted bigint, are_same boolean) returns void
    language plpgsql as $$
begin
    if came_in <> granted then
        raise exception using errcode = 'RC001', message = format('a trigger swallows the row on its way into %s', place);
    elsif not are_same then
        raise exception using errcode = 'RC001', message = format('a trigger changes the row on its way into %s', place);
    end if;
end
$$;

comment on function coupon_expect(text, bigint, bigint, boolean) is
    'Ends a statement with SQLSTATE RC001 where rows did not come in as they were granted.';

-- Who may do what. Nothing else is for everybody. An application needs no more than this; where a role of this name exists when the
-- schema is made, it has it at once:
--     create role coupon_application nologin;
--     grant coupon_application to shop;
revoke all on function coupon_changed() from public;

do $$
begin
    if exists (select from pg_roles where rolname = 'coupon_application') then
        grant select on coupon, coupon_position, user_coupon, coupon_dead_letter, coupon_orphan to coupon_application;
        grant insert, update, delete on coupon to coupon_application;
    end if;
end
$$;

-- What Redis granted on its own and the ledger does not hold; and which reconciler works on which coupons.

create table coupon_orphan (
    coupon_id    text        not null,
    user_id      text        not null,
    seq          bigint      not null,
    requested_at timestamptz not null,
    granted_at   timestamptz not null,
    epoch        bigint      not null,
    chain        bigint      not null,
    found_at     timestamptz not null default now(),
    reason       text        not null,

    -- The same user can be granted in more than one history.
    constraint coupon_orphan_pkey primary key (coupon_id, user_id, chain),
    constraint coupon_orphan_of_a_coupon foreign key (coupon_id) references coupon (id),
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
    name  text        not null,
    until timestamptz not null,

    constraint coupon_instance_pkey primary key (name),
    constraint coupon_instance_name_is_1_to_255_bytes check (octet_length(name) between 1 and 255)
);

comment on table coupon_instance is 'Reconcilers that run. Each writes its row twice a second; one that was killed is gone when its time is over.';
comment on column coupon_instance.until is 'Until when its leases hold, by this server''s clock.';

create table coupon_lease (
    shard    smallint not null,
    instance text,

    constraint coupon_lease_pkey primary key (shard),
    constraint coupon_lease_shard_is_0_to_63 check (shard between 0 and 63)
);

comment on table coupon_lease is
    'Which reconciler works on which coupons: 64 shards, by a hash of the coupon''s id. Leases only keep two from doing the same work; that nothing is written twice is the position''s compare-and-set.';
comment on column coupon_lease.instance is 'Who holds it, as long as its row in coupon_instance says; null for nobody.';

insert into coupon_lease (shard) select generate_series(0, 63);

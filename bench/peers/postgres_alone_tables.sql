drop table if exists alone_user_coupon, alone_coupon;
-- Room on the page, so that the hot row's next version stays on it and touches no index.
create table alone_coupon (
  id        bigint primary key,
  remaining bigint not null check (remaining >= 0)
) with (fillfactor = 10);
create table alone_user_coupon (
  coupon_id  bigint      not null,
  user_id    bigint      not null,
  created_at timestamptz not null default now(),
  primary key (coupon_id, user_id)
);

drop table if exists old_user_coupon, old_coupon;
create table old_coupon (
  id       bigint primary key,
  quantity bigint not null,
  status   text   not null
);
create table old_user_coupon (
  id         bigint generated always as identity primary key,
  coupon_id  bigint      not null references old_coupon (id),
  user_id    text        not null,
  created_at timestamptz not null default now(),
  unique (coupon_id, user_id)
);

\set n :n + 1
\set user_id 1000000000 + :client_id * 10000000 + :n
with taken as (
  update alone_coupon set remaining = remaining - 1
  where id = 1 and remaining > 0
    and not exists (select from alone_user_coupon where coupon_id = 1 and user_id = :user_id)
  returning id
)
insert into alone_user_coupon (coupon_id, user_id) select id, :user_id from taken;

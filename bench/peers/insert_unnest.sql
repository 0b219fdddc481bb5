insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
select :coupon, user_id, seq, requested_at, granted_at, epoch, chain
from unnest(:users::text[], :seqs::bigint[], :requested::timestamptz[], :granted::timestamptz[], :epochs::bigint[], :chains::bigint[])
  as grants (user_id, seq, requested_at, granted_at, epoch, chain);

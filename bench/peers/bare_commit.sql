-- One row, one commit: what a row costs at least.
--
-- Why it is fair: prepared once, on a connection that is kept, outside a transaction block, so that one round trip is all;
-- the same table with the same constraints and the same durability as the relay's; no other row is read or written.
insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
values ($1, $2, $3, now(), now(), 1, 0)

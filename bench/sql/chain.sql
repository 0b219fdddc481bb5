-- Recomputes a coupon's chain in PostgreSQL alone (14 or newer). $1 is the coupon's id.
--
-- Each grant is checked against the chain stored at the grant before it, starting from 0; if every link holds, the
-- whole chain does. A link is the first 8 bytes of SHA-256(previous chain, length of user id, user id, requested_at in
-- microseconds), every integer as 8 bytes, big-endian, which is what int8send makes.
with grants as (
  select seq, user_id, requested_at, chain from user_coupon where coupon_id = $1
  union all
  -- A row that was refused is no row, but stays a link.
  select seq, user_id, requested_at, chain from coupon_dead_letter where coupon_id = $1
),
links as (
  select
    seq,
    chain,
    row_number() over (order by seq) as place,
    lag(chain, 1, 0::bigint) over (order by seq) as previous,
    convert_to(user_id, 'UTF8') as user_bytes,
    (extract(epoch from requested_at) * 1000000)::bigint as requested_us
  from grants
),
checked as (
  select
    seq,
    chain,
    seq = place
      and chain = ('x' || encode(substring(sha256(
        int8send(previous) || int8send(octet_length(user_bytes)::bigint) || user_bytes || int8send(requested_us)
      ) from 1 for 8), 'hex'))::bit(64)::bigint as holds
  from links
)
select
  (select count(*) from checked) as links,
  -- The first grant that breaks the chain; null if none does.
  (select min(seq) from checked where not holds) as first_broken,
  -- Whether the coupon's position is where its grants end.
  exists (
    select from coupon_position
    where coupon_id = $1
      and seq = (select coalesce(max(seq), 0) from checked)
      and chain = coalesce((select chain from checked order by seq desc limit 1), 0)
  ) as ends_at_position

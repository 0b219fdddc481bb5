-- COUPON.REQUEST of an INSTANT coupon, as a Lua script: all of request_queue.lua, and for a user who gets a unit the
-- decrement, the number of the grant and the stream entry.
--
-- Why it is fair: as request_queue.lua says; number and stock are written by one HSET; the entry carries an explicit id,
-- so its number needs no further read. The digest chain is left out: a script has no SHA-256.
--
-- KEYS: the hash, the sorted set, the stream. ARGV: the user.
local coupon = redis.call('HMGET', KEYS[1], 'status', 'places', 'opens_at', 'expires_at', 'remaining', 'seq', 'epoch')
local now = redis.call('TIME')
local at = now[1] * 1000000 + now[2]
local requested = redis.call('ZCARD', KEYS[2])
local turned
if coupon[1] == 'EXPIRED' or (coupon[4] ~= '0' and at >= coupon[4] * 1000) then
  turned = 'CLOSED'
elseif coupon[1] == 'STANDARD' or at < coupon[3] * 1000 then
  turned = 'NOTOPEN'
elseif requested >= tonumber(coupon[2]) then
  turned = 'SOLDOUT'
end
if turned then
  if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
    return 'DUPLICATE'
  end
  return turned
end
local newest = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
if newest[2] and at <= tonumber(newest[2]) then
  at = newest[2] + 1
end
if redis.call('ZADD', KEYS[2], 'NX', at, ARGV[1]) == 0 then
  return 'DUPLICATE'
end
local remaining, seq = tonumber(coupon[5]), coupon[6] + 1
-- Whoever waits goes first.
if coupon[1] ~= 'AVAILABLE' or remaining == 0 or requested >= seq then
  return 'QUEUED'
end
if remaining == 1 then
  redis.call('HSET', KEYS[1], 'remaining', 0, 'seq', seq, 'status', 'ISSUED')
else
  redis.call('HSET', KEYS[1], 'remaining', remaining - 1, 'seq', seq)
end
redis.call('XADD', KEYS[3], coupon[7] .. '-' .. seq, 'user', ARGV[1], 'requested_at', at,
  'granted_at', now[1] * 1000 + math.floor(now[2] / 1000))
return 'GRANTED'

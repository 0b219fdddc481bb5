-- COUPON.REQUEST of a QUEUE coupon, as a Lua script: status, window, stock, duplicate, strictly increasing order, reply.
--
-- Why it is fair: sent by EVALSHA with declared keys; everything about the coupon comes with one HMGET, which is the
-- cheapest read there is; the duplicate check costs nothing on the way that counts, as ZADD NX itself says whether the
-- user was in (ZSCORE is asked only where the user would be turned away); the newest score is read from the set's end
-- instead of being stored, which would be one more write to replicate; nothing is formatted by the script. It leaves out
-- what only the module does: the fence, the check of user ids, types and companion keys, and waking the reconciler.
--
-- KEYS: the hash, the sorted set. ARGV: the user.
local coupon = redis.call('HMGET', KEYS[1], 'status', 'places', 'opens_at', 'expires_at')
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
return 'QUEUED'

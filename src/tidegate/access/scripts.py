"""The scripts by which several gateways count together in one Valkey or Redis. Each runs there whole or not at all, by the
server's own time.

Keys, behind the prefix: `m:<level>:<id>:<kind>` is a hash of slots of the running minute, `c:<level>:<id>` a hash with what a
day and a month have seen, `s:<level>:<id>` a sorted set of the requests under way, and `r:<reservation>` what one
reservation holds. All of them expire by themselves.
"""

from typing import Final

from tidegate.access.limits import SLOT_S, WINDOW_S

__all__ = ["RESERVATION_S", "RESERVE", "SEED", "SETTLE", "STREAM_S"]

RESERVATION_S: Final = 86_400
"""How long a reservation can be settled."""

STREAM_S: Final = 900
"""How long a request counts as under way whose end nobody tells: its gateway may be gone."""

_COMMON: Final = f"""
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local second = tonumber(clock[1])
local day = math.floor(second / 86400)

-- The calendar's month of a day, and its first day and that of the next one (days since 1970-01-01).
local function month_of(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year, month
end
local function first_day(year, month)
  local y = month <= 2 and year - 1 or year
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local mp = (month + 9) % 12
  local doy = math.floor((153 * mp + 2) / 5)
  local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
  return era * 146097 + doe - 719468
end
local year, month = month_of(day)
local month_id = year * 12 + month - 1
local month_begin = first_day(year, month) * 86400
local month_end = (month == 12 and first_day(year + 1, 1) or first_day(year, month + 1)) * 86400
local span = {{day = {{day, day * 86400, (day + 1) * 86400}}, month = {{month_id, month_begin, month_end}}}}

-- Forget what an earlier day or month has left.
local function roll(key)
  for window, at in pairs(span) do
    local known = redis.call('HGET', key, window)
    if known ~= tostring(at[1]) then
      if known then
        for kind = 0, 2 do
          redis.call('HDEL', key, window .. kind, window .. 'h' .. kind)
        end
        -- A window that begins while this hash is there is counted in it from its first request on.
        redis.call('HSET', key, window .. 's', 1)
      end
      redis.call('HSET', key, window, at[1])
    end
  end
  redis.call('EXPIRE', key, 40 * 86400)
end

-- What the last minute has seen, and its slots; those that count no more are taken out.
local function minute(key)
  local used = 0
  local slots = {{}}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local slot = tonumber(flat[i])
    if slot + {WINDOW_S + SLOT_S} <= now then
      redis.call('HDEL', key, flat[i])
    else
      used = used + tonumber(flat[i + 1])
      slots[#slots + 1] = {{slot, tonumber(flat[i + 1])}}
    end
  end
  table.sort(slots, function(a, b) return a[1] < b[1] end)
  return used, slots
end
local slot = tostring(math.floor(second / {SLOT_S}) * {SLOT_S})
"""

# KEYS: the reservation, then the key of each rule. ARGV: dry ('1': nothing is reserved, only read), requests, tokens, cost,
# then for each rule its window ('' of streams), kind, limit, and '1' where it must be seeded.
# Answers with a JSON object: `ok`, `unseeded` (places of rules), and for each rule [used, held, wait_s, reset_s].
RESERVE: Final = (
    _COMMON
    + f"""
local amounts = {{[0] = tonumber(ARGV[2]), [1] = tonumber(ARGV[3]), [2] = tonumber(ARGV[4])}}
local rules = {{}}
local ok = true
local unseeded = {{}}
local rolled = {{}}
local found = {{}}
for i = 2, #KEYS do
  local at = 5 + (i - 2) * 4
  local key, window, kind, limit = KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local used, held, wait, reset = 0, 0, 0, 0
  local asked = amounts[kind]
  if window == '' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', second)
    used = redis.call('ZCARD', key)
    held = used
    asked = 1
    wait = used + 1 > limit and (limit == 0 and -1 or 1) or 0
  elseif window == 'minute' then
    local slots
    used, slots = minute(key)
    if #slots > 0 then
      reset = slots[#slots][1] + {WINDOW_S + SLOT_S} - now
    end
    if used + asked > limit then
      if asked > limit then
        wait = -1
      else
        local needed = used + asked - limit
        for _, one in ipairs(slots) do
          needed = needed - one[2]
          if needed <= 0 then
            wait = one[1] + {WINDOW_S + SLOT_S} - now
            break
          end
        end
        if wait <= 0 then wait = 0.001 end
      end
    end
  else
    if not rolled[key] then
      roll(key)
      rolled[key] = true
    end
    used = tonumber(redis.call('HGET', key, window .. kind) or '0')
    held = tonumber(redis.call('HGET', key, window .. 'h' .. kind) or '0')
    reset = used > 0 and span[window][3] - now or 0
    if ARGV[at + 3] == '1' and not redis.call('HGET', key, window .. 's') then
      unseeded[#unseeded + 1] = {{i - 2, span[window][1], span[window][2]}}
    end
    if used + asked > limit then
      if asked > limit then
        wait = -1
      elseif used - held + asked <= limit then
        wait = 1
      else
        wait = span[window][3] - now
      end
    end
  end
  if wait ~= 0 then ok = false end
  found[#found + 1] = {{used, held, wait, reset}}
  rules[#rules + 1] = {{key, window, kind}}
end
if #unseeded > 0 then ok = false end
if ok and ARGV[1] ~= '1' then
  local entry = {{}}
  for _, rule in ipairs(rules) do
    local key, window, kind = rule[1], rule[2], rule[3]
    local amount = amounts[kind]
    local mark = 0
    if window == '' then
      redis.call('ZADD', key, second + {STREAM_S}, KEYS[1])
      redis.call('EXPIRE', key, {STREAM_S + 60})
    elseif window == 'minute' then
      redis.call('HINCRBY', key, slot, string.format('%.0f', amount))
      redis.call('EXPIRE', key, {WINDOW_S + 2 * SLOT_S})
      mark = tonumber(slot)
    else
      redis.call('HINCRBY', key, window .. kind, string.format('%.0f', amount))
      redis.call('HINCRBY', key, window .. 'h' .. kind, string.format('%.0f', amount))
      mark = span[window][1]
    end
    entry[#entry + 1] = {{key, window, kind, amount, mark}}
  end
  redis.call('SET', KEYS[1], cjson.encode(entry), 'EX', {RESERVATION_S})
end
return cjson.encode({{ok = ok, now = now, unseeded = unseeded, rules = found}})
"""
)

# KEYS: the reservation. ARGV: requests, tokens, cost; '-1' leaves what was reserved. A reservation that is not known was
# settled before, and nothing is done. What was reserved in an earlier window only adds what it used beyond that; the mark -2
# stands for what was used without a reservation, and is left to the books where these have still to be asked.
SETTLE: Final = (
    _COMMON
    + f"""
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
redis.call('DEL', KEYS[1])
local actual = {{[0] = tonumber(ARGV[1]), [1] = tonumber(ARGV[2]), [2] = tonumber(ARGV[3])}}
for _, one in ipairs(cjson.decode(held)) do
  local key, window, kind, reserved, mark = one[1], one[2], one[3], one[4], one[5]
  if window == '' then
    redis.call('ZREM', key, KEYS[1])
  else
    local change = actual[kind] < 0 and 0 or actual[kind] - reserved
    local text = string.format('%.0f', change)
    if window == 'minute' then
      if change > 0 then
        redis.call('HINCRBY', key, slot, text)
        redis.call('EXPIRE', key, {WINDOW_S + 2 * SLOT_S})
      elseif change < 0 and redis.call('HEXISTS', key, string.format('%.0f', mark)) == 1 then
        redis.call('HINCRBY', key, string.format('%.0f', mark), text)
      end
    else
      roll(key)
      if mark == span[window][1] then
        redis.call('HINCRBY', key, window .. 'h' .. kind, string.format('%.0f', 0 - reserved))
        if change ~= 0 then redis.call('HINCRBY', key, window .. kind, text) end
      elseif change > 0 and (mark ~= -2 or redis.call('HGET', key, window .. 's')) then
        redis.call('HINCRBY', key, window .. kind, text)
      end
    end
  end
end
return 1
"""
)

# KEYS: a calendar hash. ARGV: the window, its id, requests, tokens, cost that it had seen before. Once for each window.
SEED: Final = (
    _COMMON
    + """
roll(KEYS[1])
if ARGV[2] ~= tostring(span[ARGV[1]][1]) or redis.call('HGET', KEYS[1], ARGV[1] .. 's') then return 0 end
redis.call('HSET', KEYS[1], ARGV[1] .. 's', 1)
for kind = 0, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[1] .. kind, ARGV[3 + kind])
end
return 1
"""
)

"""The script that runs in Redis: `Gate` once more, a `Concurrency` and two `Rate`, with the clock of the server.

It runs alone, so what it decides is decided for all. `Question` is what it is asked, `Answer` what it gives.

    KEYS[1]  a hash: the two buckets, and the concurrency that was found
    KEYS[2]  a hash: for each process how many are under way, how many it waits for, and when it was heard of last
"""

from __future__ import annotations

SCRIPT = """
local asked = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local INFINITE = math.huge
local AT_ONCE = 1e-6    -- seconds; a shorter wait is none
local WANTS = 1         -- seconds for which it counts that a process waits: it asks again sooner while it does
local GRACE = 0.1       -- seconds for which a turn is kept for who is late
local KEPT = 3600       -- seconds for which an idle state is kept, beside what it takes to fill

local stored = {}
local flat = redis.call('HGETALL', KEYS[1])
for place = 1, #flat, 2 do stored[flat[place]] = flat[place + 1] end

local function given(value) return value ~= nil and value ~= cjson.null end
local function text(number) return string.format('%.17g', number) end
local function number(name, default)
  if stored[name] == nil then return default end
  return tonumber(stored[name])
end
local function keep(name, value)
  if value ~= number(name, nil) then redis.call('HSET', KEYS[1], name, text(value)) end
end

-- A bucket that fills evenly: Rate, in rates.py

local function delay(rate, amount)
  local at_once = math.min(amount / rate.second, rate.span)
  local wait = rate.full_at + at_once - rate.span - now
  if wait > AT_ONCE then return wait end
  return 0
end

local function take(rate, amount)
  if rate.full_at <= now then rate.full_at, rate.busy_since = now, now end
  rate.full_at = rate.full_at + amount / rate.second
end

local function settle(rate, at, taken, amount)
  if amount > taken then
    take(rate, amount - taken)
  elseif at >= rate.busy_since then  -- else the bucket has been full since, and holds nothing back for it
    rate.full_at = rate.full_at - (taken - amount) / rate.second
  end
end

local function turn_to(rate, second, span)
  if rate.full_at > now and rate.second < INFINITE then
    rate.full_at = now + (rate.full_at - now) * rate.second / second
  end
  rate.second, rate.span = second, span
end

local function learn(rate, limit, remaining, reset)
  local usual = math.min(rate.option, limit / 60)
  local second = usual
  if given(reset) and remaining == 0 then second = math.min(second, limit / reset) end
  turn_to(rate, second, rate.burst * usual / second)
  if given(remaining) then
    local full_at = now + rate.span - remaining / rate.second
    if full_at > math.max(now, rate.full_at) then rate.full_at, rate.busy_since = full_at, now end
  end
end

local function load_rate(name, told)
  local option = told.second > 0 and told.second or INFINITE
  local rate = {option = option, burst = told.burst, second = option, span = told.burst}
  rate.full_at = number(name .. '_full_at', 0)
  rate.busy_since = number(name .. '_busy_since', INFINITE)
  local second = number(name .. '_second', told.second)
  if second > 0 then rate.second = second else rate.second = INFINITE end
  rate.span = number(name .. '_span', told.burst)
  if number(name .. '_option', told.second) ~= told.second or number(name .. '_burst', told.burst) ~= told.burst then
    turn_to(rate, option, told.burst)  -- who says something new is right: limits are changed while processes run
  end
  for _, each in ipairs(told.settled) do settle(rate, each[1], each[2], each[3]) end
  if told.follows and given(told.window) then
    learn(rate, told.window.limit, told.window.remaining, told.window.reset)
  end
  return rate
end

local function shown(second) return second < INFINITE and second or 0 end

local function keep_rate(name, rate, told)
  keep(name .. '_full_at', rate.full_at)
  if rate.busy_since < INFINITE then keep(name .. '_busy_since', rate.busy_since) end
  keep(name .. '_second', shown(rate.second))
  keep(name .. '_span', rate.span)
  keep(name .. '_option', told.second)
  keep(name .. '_burst', told.burst)
end

local requests = load_rate('requests', asked.requests)
local tokens = load_rate('tokens', asked.tokens)

-- How many may be under way: Concurrency, in concurrency.py

local options = asked.concurrency
local limit, falls, successes, reached = INFINITE, number('falls', 0), number('successes', 0), number('reached', 0)

local function move(to)
  limit = math.max(options.minimum, math.min(options.maximum, to))
  successes, reached = 0, 0
end

if given(options) then
  limit = math.max(options.minimum, math.min(options.maximum, number('limit', options.initial)))
  for entered, count in pairs(asked.succeeded) do
    if tonumber(entered) == falls then
      successes = successes + count
      if successes >= limit then move(limit + reached) end
    end
  end
  for _, entered in ipairs(asked.throttled) do
    if entered == falls then
      falls = falls + 1
      move(math.floor(limit * options.decrease))
    end
  end
end

-- Who else is there

local others, held, workers, contenders = {}, asked.held, 1, 1
local known = redis.call('HGETALL', KEYS[2])
for place = 1, #known, 2 do
  local worker = known[place]
  if worker ~= asked.worker then
    local has, wants, heard, lease = string.match(known[place + 1], '(%S+) (%S+) (%S+) (%S+)')
    local other = {held = tonumber(has), wants = tonumber(wants)}
    local silent = now - tonumber(heard)
    if silent > tonumber(lease) then
      redis.call('HDEL', KEYS[2], worker)
    else
      workers, held = workers + 1, held + other.held
      if silent > WANTS then other.wants = 0 end
      if other.wants > 0 or other.held > 0 then contenders = contenders + 1 end
      others[#others + 1] = other
    end
  end
end

-- What is free is kept for those who wait and have less than their share

local share = math.max(1, math.floor(limit / contenders))
local reserved = 0
for _, other in ipairs(others) do
  reserved = reserved + math.min(other.wants, math.max(0, share - other.held))
end

local function has_room(mine)
  if held >= limit then return false end
  return mine < share or limit - held > reserved
end

-- Let in, from the first on, who may start. Whom the rates hold up has the next turn before all other processes, so
-- that many small requests do not keep a large one waiting for ever.

local granted, wait, is_full = 0, 0, false
local next_worker, next_at = stored.next_worker, number('next_at', 0)
if next_worker == '' or next_worker == asked.worker or now > next_at + GRACE then next_worker = nil end
for _, amount in ipairs(asked.wanted) do
  if limit < INFINITE and not has_room(asked.held + granted) then
    wait, is_full = -1, true
    break
  end
  wait = math.max(delay(requests, 1), delay(tokens, amount))
  if next_worker then wait = math.max(wait, next_at - now, 0.001) end
  if wait > 0 then break end
  take(requests, 1)
  take(tokens, amount)
  granted, held = granted + 1, held + 1
  if held >= limit then reached = 1 end
end
if wait > 0 and granted == 0 and not next_worker then
  redis.call('HSET', KEYS[1], 'next_worker', asked.worker, 'next_at', text(now + wait))
elseif stored.next_worker == asked.worker then
  redis.call('HSET', KEYS[1], 'next_worker', '')
end

keep_rate('requests', requests, asked.requests)
keep_rate('tokens', tokens, asked.tokens)
if given(options) then
  keep('limit', limit)
  keep('falls', falls)
  keep('successes', successes)
  keep('reached', reached)
end
local wants = is_full and #asked.wanted - granted or 0
local mine = asked.held + granted
redis.call('HSET', KEYS[2], asked.worker, table.concat({mine, wants, text(now), text(asked.lease)}, ' '))
redis.call('EXPIRE', KEYS[1], math.ceil(KEPT + math.max(0, requests.full_at - now, tokens.full_at - now)))
redis.call('EXPIRE', KEYS[2], KEPT)
return {
  text(now), tostring(granted), text(wait), text(falls), text(limit < INFINITE and limit or 0), tostring(workers),
  text(shown(requests.second)), text(shown(tokens.second)),
}
"""

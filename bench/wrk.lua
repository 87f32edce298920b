-- The requests of wrk, for bench.load. Arguments after `--`, and one JSON line at the end:
--   METHOD BODY_BYTES                                  one request, again and again; its headers are set with wrk's -H
--   METHOD BODY_BYTES TOKENS_FILE FIRST COUNT          exactly COUNT requests, each with the next token, from index FIRST on
--   mixed TEMPLATE LINES_FILE TARGETS_FILE SEED COUNT  no two alike (bench.mixed); with COUNT, exactly that many, each with
--                                                      the next line
local function lines_of(file)
  local found = {}
  for line in io.lines(file) do found[#found + 1] = line end
  return found
end

local function stop_after(count)
  local allowed, answered = 0, 0

  function delay() -- called before each request; returns milliseconds
    allowed = allowed + 1
    return allowed <= count and 0 or 1e6
  end

  function response()
    answered = answered + 1
    if answered == count then -- wrk itself ends only when its time is over
      local ffi = require "ffi"
      ffi.cdef "int getpid(void); int kill(int pid, int signal);"
      ffi.C.kill(ffi.C.getpid(), 2)
    end
  end
end

local function rotate(file, first, count)
  local tokens = lines_of(file)
  local at = first - 1 -- wrk calls request() once before the load begins
  wrk.headers["Authorization"] = "Bearer @"
  local before, after = wrk.format():match "^(.-)@(.*)$"

  function request()
    local token = tokens[at % #tokens + 1]
    at = at + 1
    return before .. token .. after
  end

  stop_after(count)
end

-- What replaces a mark, as Lua source; x is a random number of 32 bits. Random texts come from pools, because making them for
-- each request would cost more than sending it. A trace id is both halves of one number, so that it cannot repeat.
local MARKS = {
  HEX16 = { "H[band(x, 65535)]", "H[rshift(x, 16)]" },
  IP = { "A[rshift(x, 16)]" },
  TARGET = { "T[rshift(x, 16) % #T + 1]" },
  LINE = { "line" },
  SIZE = { "#line" },
}

-- The source of a function that fills the template, in one expression, which LuaJIT compiles well.
local function source_of(text, count)
  local draws, terms, drawn, from, last = {}, {}, 0, 1, nil
  local function draw()
    drawn = drawn + 1
    draws[drawn] = "x = bxor(x, lshift(x, 13)); x = bxor(x, rshift(x, 17)); x = bxor(x, lshift(x, 5)); local x" .. drawn .. " = x"
  end
  for at, mark, behind in text:gmatch "()@([A-Z0-9]+)@()" do
    local halves = assert(MARKS[mark], mark)
    local second = halves[2] and last == halves[1]
    if not second then draw() end
    last = second and halves[2] or halves[1]
    terms[#terms + 1] = ("%q"):format(text:sub(from, at - 1))
    terms[#terms + 1] = (last:gsub("%f[%w]x%f[%W]", "x" .. drawn))
    from = behind
  end
  terms[#terms + 1] = ("%q"):format(text:sub(from))
  draw()
  local line = count > 0 and "L[at % #L + 1]" or ("L[rshift(x%d, 16) %% #L + 1]"):format(drawn)
  return "local H, A, T, L, x, at = ...; local band, bxor, lshift, rshift = bit.band, bit.bxor, bit.lshift, bit.rshift\n"
    .. "return function()\n" .. table.concat(draws, "\n") .. "\nlocal line = " .. line .. "; at = at + 1\n"
    .. "return " .. table.concat(terms, " .. ") .. "\nend"
end

local function mix(template, file, targets, seed, count)
  local input = assert(io.open(template, "rb"))
  local text = input:read "*a"
  input:close()
  local hex, addresses, random = {}, {}, math.random
  math.randomseed(seed)
  for n = 0, 65535 do
    hex[n] = ("%04x%04x%04x%04x"):format(n, random(0, 65535), random(0, 65535), random(0, 65535))
    addresses[n] = ("10.%d.%d.%d"):format(random(0, 255), random(0, 255), random(0, 255))
  end
  local at, x = -1, bit.bor(seed, 1) -- wrk calls request() once before the load begins
  request = assert(loadstring(source_of(text, count)))(hex, addresses, lines_of(targets), lines_of(file), x, at)
  if count > 0 then stop_after(count) end
end

function init(args)
  if args[1] == "mixed" then
    return mix(args[2], args[3], args[4], tonumber(args[5]), tonumber(args[6]))
  end
  wrk.method = args[1]
  local size = tonumber(args[2])
  if size > 0 then wrk.body = string.rep("x", size) end
  if args[3] then rotate(args[3], tonumber(args[4]), tonumber(args[5])) end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect, e.read, e.write, e.timeout, e.status))
end

-- Arguments after `--`: METHOD BODY_BYTES [TOKENS_FILE FIRST COUNT]. Headers are set with wrk's -H. Prints one JSON line
-- for bench.load. With a file of one token per line, exactly COUNT requests are sent, each with the next token.
local function rotate(file, first, count)
  local tokens, allowed, answered = {}, 0, 0
  local at = first - 1 -- wrk calls request() once before the load begins
  for line in io.lines(file) do tokens[#tokens + 1] = line end
  wrk.headers["Authorization"] = "Bearer @"
  local before, after = wrk.format():match "^(.-)@(.*)$"

  function request()
    local token = tokens[at % #tokens + 1]
    at = at + 1
    return before .. token .. after
  end

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

function init(args)
  wrk.method = args[1]
  local size = tonumber(args[2])
  if size > 0 then wrk.body = string.rep("x", size) end
  if args[3] then rotate(args[3], tonumber(args[4]), tonumber(args[5])) end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end

-- What every run of wrk prints for the harness, and, where a file of requests is named, which requests it sends.
--
-- wrk ... -s load.lua URL -- [FILE SEED]
-- A line of FILE is a path, then any number of header fields, all separated by tabs.
--
-- `request` is defined only where there is a file: without it wrk sends one prepared request and runs no Lua between.

local requests = {}

function init(args)
  if not args[1] then return end
  math.randomseed(tonumber(args[2] or "1"))
  for line in io.lines(args[1]) do
    local path, fields = line:match("^([^\t]*)(.*)$")
    local headers = {}
    for name, value in pairs(wrk.headers) do headers[name] = value end
    for name, value in fields:gmatch("\t([^:\t]+): ([^\t]*)") do headers[name] = value end
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
  local count = #requests
  local random = math.random
  request = function() return requests[random(count)] end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "pinstone-load requests=%d bytes=%d duration_us=%d connect=%d read=%d write=%d status=%d timeout=%d "
      .. "p50_us=%d p90_us=%d p99_us=%d p999_us=%d max_us=%d\n",
    summary.requests, summary.bytes, summary.duration,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end

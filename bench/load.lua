-- What wrk sends: the path that it was given, with a token, or with several in turn. From the
-- environment: BENCH_TOKENS, a file with one token a line; BENCH_ONCE, to stop when each was used.
-- The last line printed is for run.py.
local tokens = {}
for token in io.lines(os.getenv("BENCH_TOKENS")) do
  tokens[#tokens + 1] = "Bearer " .. token
end

if #tokens == 1 then
  -- Formatted once, by wrk itself: the load costs as little as it can.
  wrk.headers["authorization"] = tokens[1]
else
  local requests, turn = {}, 0
  function request()
    turn = turn + 1
    if turn > #tokens then
      if os.getenv("BENCH_ONCE") then wrk.thread:stop() end
      turn = 1
    end
    local made = requests[turn]
    if not made then
      wrk.headers["authorization"] = tokens[turn]
      made = wrk.format()
      requests[turn] = made
    end
    return made
  end
end

function done(summary, latency, all)
  local errors = summary.errors
  io.write(string.format("BENCH %d %d %d %d\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end

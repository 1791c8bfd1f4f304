-- What wrk sends: the path it was given, with a token; several tokens in turn. Arguments: a file with
-- one token a line, and "once" to stop when each was used. The last line printed is for run.py.
local requests, turn, once = {}, 0, false

function init(arguments)
  local tokens = {}
  for token in io.lines(arguments[1]) do
    tokens[#tokens + 1] = token
  end
  once = arguments[2] == "once"
  if #tokens == 1 then
    -- Formatted once by wrk itself: the load costs as little as it can.
    wrk.headers["authorization"] = "Bearer " .. tokens[1]
    wrk.init(arguments)
    return
  end
  for index, token in ipairs(tokens) do
    requests[index] = wrk.format(nil, nil, { ["host"] = wrk.headers["Host"], ["authorization"] = "Bearer " .. token })
  end
  request = function()
    turn = turn + 1
    if turn > #requests then
      if once then wrk.thread:stop() end
      turn = 1
    end
    return requests[turn]
  end
end

function done(summary, latency, all)
  local errors = summary.errors
  io.write(string.format("BENCH %d %d %d %d\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end

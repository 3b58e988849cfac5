-- What wrk sends and how it counts: one request after another, each from a unit of its own, every
-- answer looked at. A quick error is no answer: `good` counts those with status 200 and the
-- prediction that was expected.
--
-- Arguments after `--`: the body's file, its content type, the text that a right answer has in its
-- body, and the paths to ask in turn. Prints one line of JSON.

local threads = {}

function setup(thread)
    threads[#threads + 1] = thread
    thread:set('number', #threads)
end

function init(args)
    local file = assert(io.open(args[1], 'rb'))
    body = file:read('*a')
    file:close()
    expected = args[3]
    heads = {}
    for i = 4, #args do
        heads[#heads + 1] = 'POST ' .. args[i] .. ' HTTP/1.1\r\nHost: ' .. wrk.host .. ':' .. wrk.port
            .. '\r\nContent-Type: ' .. args[2] .. '\r\nContent-Length: ' .. #body .. '\r\nX-Unit-Id: '
    end
    asked, good, rescued = 0, 0, 0
    statuses, variants, stray = {}, {}, ''
    -- No two runs share a unit; the address of a new table is the only thing that differs between
    -- two that begin in the same second.
    salt = os.time() .. tostring({}):gsub('%W', '') .. '-' .. number
end

function request()
    asked = asked + 1
    return heads[asked % #heads + 1] .. salt .. '-' .. asked .. '\r\n\r\n' .. body
end

-- Some write a space after a comma.
local function is_right(answer)
    return answer:find(expected, 1, true) or answer:gsub(', ', ','):find(expected, 1, true)
end

function response(status, headers, answer)
    statuses[status] = (statuses[status] or 0) + 1
    if status == 200 and is_right(answer) then
        good = good + 1
    elseif stray == '' then
        stray = status .. ' ' .. answer:sub(1, 200)
    end
    if headers['x-failover'] then
        rescued = rescued + 1
    end
    local variant = headers['x-variant']
    if variant then
        variants[variant] = (variants[variant] or 0) + 1
    end
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', function(c) return ('\\u%04x'):format(c:byte()) end) .. '"'
end

local function totals(name)
    local sums, parts = {}, {}
    for _, thread in ipairs(threads) do
        for key, count in pairs(thread:get(name)) do
            sums[key] = (sums[key] or 0) + count
        end
    end
    for key, count in pairs(sums) do
        parts[#parts + 1] = quoted(tostring(key)) .. ':' .. count
    end
    return '{' .. table.concat(parts, ',') .. '}'
end

function done(summary, latency)
    local all, saved, odd = 0, 0, ''
    for _, thread in ipairs(threads) do
        all = all + thread:get('good')
        saved = saved + thread:get('rescued')
        odd = odd ~= '' and odd or thread:get('stray')
    end
    local errors = summary.errors
    io.write(('{"seconds":%.6f,"answers":%d,"good":%d,"p50_ms":%.4f,"p99_ms":%.4f,"broken":%d,"timeouts":%d,')
        :format(summary.duration / 1e6, summary.requests, all, latency:percentile(50) / 1e3,
            latency:percentile(99) / 1e3, errors.connect + errors.read + errors.write, errors.timeout),
        '"statuses":', totals('statuses'), ',"variants":', totals('variants'), ',"rescued":', saved, ',"stray":', quoted(odd),
        '}\n')
end

-- What keeps hosts standing when there is too much for them: of requests under way, and of failures
-- that others would have to make up for. HAProxy has one thread, so what is read here is still true
-- when it is acted upon.

local incidents = require('incidents')

local WHOLE = 10000
-- Seconds over which a failover budget is counted, and failovers in them that need no requests.
local WINDOW, FREE = 10, 10

local guard = {}

-- ---- requests under way

local most, crowded

-- How many requests of one version may be under way, and from how many on its hosts are crowded.
function guard.limit(in_flight, crowded_from)
    most, crowded = in_flight, crowded_from
end

function guard.is_crowded(txn, host)
    return txn.c:table_conn_cur(host, 'in_flight') >= crowded
end

-- Returns whether a side of a route may be asked while the champion's hosts are crowded. Only its own
-- requests are let in then, and they are none of an experiment: whoever is turned away would be
-- missing in one arm alone.
function guard.admit(model, route, chosen, under_way)
    local own = chosen.version == route.version
    if own and under_way < most then
        return true
    end
    incidents.count(model, own and 'shed_champion' or 'shed_challenger')
    return false
end

-- ---- failovers

-- Counts what happens in the last WINDOW seconds, the one that has begun included.
local function new_window()
    local window = {second = 0, sum = 0}
    for place = 0, WINDOW - 1 do
        window[place] = 0
    end
    return window
end

local function sum_at(window, second)
    local passed = second - window.second
    -- Nothing is left of it either when the clock was put back.
    local stale = (passed < 0 or passed > WINDOW) and WINDOW or passed
    for ago = 0, stale - 1 do
        local place = (second - ago) % WINDOW
        window.sum = window.sum - window[place]
        window[place] = 0
    end
    window.second = second
    return window.sum
end

local function add_at(window, second)
    local place = second % WINDOW
    window.sum = sum_at(window, second) + 1
    window[place] = window[place] + 1
end

-- Requests by model, failovers by experiment. Names of experiments are never used again, but few.
local asked, failed_over = {}, {}

local function of(windows, name)
    local window = windows[name]
    if window == nil then
        window = new_window()
        windows[name] = window
    end
    return window
end

-- Takes note of a request of a model with a trial that has a budget.
function guard.ask(model)
    add_at(of(asked, model), os.time())
end

-- Returns whether another version may answer for a failing challenger of the trial, and if so takes
-- note that it did.
function guard.fail_over(model, trial)
    if trial.budget >= WHOLE then
        return true
    end
    local second = os.time()
    local failovers = of(failed_over, trial.experiment)
    local allowed = FREE + sum_at(of(asked, model), second) * trial.budget / WHOLE
    if sum_at(failovers, second) + 1 > allowed then
        incidents.count(model, 'budget_spent')
        return false
    end
    add_at(failovers, second)
    return true
end

return guard

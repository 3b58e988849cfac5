-- What HAProxy's configuration language cannot say: which version gets this request.
--
-- `experiments/assignment.py`, `experiments/identity.py` and `experiments/audience.py` define what is
-- computed here and in the files of the same names; a test drives both with the same requests and
-- finds no difference.
--
-- Arguments: the signing key's file, the routes' map file, how many bytes of a body there are before
-- a request is routed, the two limits of requests under way (see guard.lua), and the problem documents
-- of bodies that are refused: too large, with and without a declared length, and too much; and the
-- partition policy.

local key_file, map_file, longest, in_flight, crowded, too_large, chunked_too_large, overloaded,
    too_many_uploads, partition_policy = ...
longest, in_flight, crowded = tonumber(longest), tonumber(in_flight), tonumber(crowded)

local assignment = require('assignment')
local guard = require('guard')
local incidents = require('incidents')
local lease = require('lease')
local routes = require('routes')

guard.limit(in_flight, crowded)
if partition_policy == 'champion' then
    lease.begin_over()
end

local DRAINED_BYTES = 256 * 1024 * 1024

local function read_key()
    local file = assert(io.open(key_file, 'rb'))
    local key = file:read('a')
    file:close()
    assert(#key >= 32, 'the signing key is shorter than 32 bytes: ' .. key_file)
    return key
end

-- Read when HAProxy starts, and nowhere written down again: not in the configuration, which
-- people read and copy, and not in the environment, which child processes inherit.
local raw_key = read_key()

-- Hands the key to the configuration, in base64, as the hmac converter takes it. Variables and
-- converters exist only while there is a request, so the first one does this.
core.register_action('key', {'http-req'}, function(txn)
    txn:set_var('proc.key', txn.c:base64(raw_key))
end)

-- Parsed routes by model. Only models that are in the map get here, so this stays small; the
-- raw value is compared on every request, so a new value takes effect with the next request.
local parsed = {}

local function lookup(model, value)
    local route = parsed[model]
    if route == nil or route.value ~= value then
        route = routes.parse(model, value, longest)
        parsed[model] = route
    end
    if route and route.trials[1] and lease.is_over() then
        route.fenced = route.fenced or routes.parse(model, routes.control_only(value), longest)
        return route.fenced
    end
    return route
end

-- In: txn.model, and txn.route, the model's value in the map. Out: the variables that
-- haproxy.cfg routes, stamps and logs with; or txn.refused, the code of a problem.
core.register_action('assign', {'http-req'}, function(txn)
    local model = txn:get_var('txn.model')
    local route = lookup(model, txn:get_var('txn.route'))
    if route == nil then
        txn:set_var('txn.refused', 'route_unreadable')
        return
    end
    -- Asked here, because a deeper stack is one that Lua has to make anew for each request.
    local under_way = txn.c:table_conn_cur(route.host, 'in_flight')
    local chosen, trial, slot, shadow = assignment.assign(txn, route)
    if chosen == nil then
        txn:set_var('txn.refused', trial)
        return
    end
    if under_way >= crowded then
        if not guard.admit(model, route, chosen, under_way) then
            txn:set_var('txn.refused', 'overloaded')
            return
        end
        chosen, trial, slot, shadow = route.champion, nil, '-', nil
    end
    if route.has_budget then
        guard.ask(model)
    end
    txn:set_var('txn.epoch', route.epoch)
    txn:set_var('txn.version', chosen.version)
    txn:set_var('txn.path', chosen.path)
    txn:set_var('txn.fallback', chosen.fallback)
    txn:set_var('txn.token', chosen.token)
    txn:set_var('txn.slot', slot)
    txn:set_var('txn.segment', assignment.segment(txn, trial))
    if shadow ~= nil then
        txn:set_var('txn.shadow', shadow)
    end
    local on_trial = chosen.on_trial
    if trial ~= nil then
        txn:set_var('txn.experiment', trial.experiment)
        txn:set_var('txn.stage', trial.stage)
        txn:set_var('txn.variant', chosen.variant)
        txn:set_var('txn.meets', on_trial and 'challenger' or 'champion')
    end
    -- On the same terms for everybody who meets it, counted or not.
    if on_trial then
        txn:set_var('txn.deadline', on_trial.deadline)
        txn:set_var('txn.trial', on_trial.experiment)
    end
end)

-- Who pins a version comes after those who take what they are given.
core.register_action('admit_pinned', {'http-req'}, function(txn)
    local model, value = txn:get_var('txn.model'), txn:get_var('txn.route')
    local route = value and lookup(model, value)
    local host = model .. '/' .. txn:get_var('txn.version')
    if guard.is_crowded(txn, host) or route and guard.is_crowded(txn, route.host) then
        incidents.count(model, 'shed_pinned')
        txn:set_var('txn.refused', 'overloaded')
    end
end)

-- Where an answer of a version on trial begins and the route is another than the request's. A route
-- that is gone, or cannot be read, takes no answer from anybody.
core.register_action('withdraw', {'http-res'}, function(txn)
    local model, value = txn:get_var('txn.model'), txn:get_var('txn.route')
    local route = value and lookup(model, value)
    if route and not route.serves[txn:get_var('txn.version')] then
        incidents.count(model, 'withdrawn')
        txn:set_var('txn.withdrawn', true)
    end
end)

-- In the frontend `failover`. The request was routed a while ago: whoever was to stand in for its
-- version may have been withdrawn since, and then the champion does.
core.register_action('stand_in', {'http-req'}, function(txn)
    local version, value = txn:get_var('txn.version'), txn:get_var('txn.route')
    local route = value and lookup(txn:get_var('txn.model'), value)
    if route == nil then
        return
    end
    if not route.serves[version] and version ~= route.behind then
        version = route.version
        txn:set_var('txn.version', version)
        txn:set_var('txn.is_other', true)
    end
    if route.on_trial[version] then
        txn:set_var('txn.on_trial', true)
    end
end)

-- In the frontend `failover`, for an experiment whose challenger has failed.
core.register_action('fail_over', {'http-req'}, function(txn)
    local model, name = txn:get_var('txn.model'), txn:get_var('txn.trial')
    local route = parsed[model]
    for _, trial in ipairs(route and route.trials or {}) do
        if trial.experiment == name and not guard.fail_over(model, trial) then
            txn:set_var('txn.refused', 'failover_budget_spent')
        end
    end
end)

-- Ready means that at least one model has a route. HAProxy cannot count a map, and the map's file
-- is always written before the map itself. Reading it blocks, but routes come first in this local
-- file: what begins with `#` is no route.
core.register_action('ready', {'http-req'}, function(txn)
    local file = io.open(map_file, 'r')
    local line = file and file:read('l')
    if file then
        file:close()
    end
    txn:set_var('txn.ready', line ~= nil and line ~= '' and line:sub(1, 1) ~= '#')
end)

-- Most clients send all of a body before they read an answer, and would see a broken connection
-- instead of one that came early: so what is refused is read to its end first, within reason.
local function refuse_body(name, status, document)
    core.register_service(name, 'http', function(applet)
        local drained = 0
        repeat
            local piece = applet:receive(65536)
            drained = drained + #piece
        until piece == '' or drained > DRAINED_BYTES
        applet:set_status(status)
        applet:add_header('content-type', 'application/problem+json')
        applet:add_header('content-length', #document)
        if status == 429 then
            applet:add_header('retry-after', 1)
        end
        applet:start_response()
        applet:send(document)
    end)
end

refuse_body('body_too_large', 413, too_large)
refuse_body('chunked_body_too_large', 413, chunked_too_large)
refuse_body('overloaded', 429, overloaded)
refuse_body('too_many_uploads', 429, too_many_uploads)

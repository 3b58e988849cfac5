-- What HAProxy's configuration language cannot say: which version gets this request.
--
-- `experiments/assignment.py` and `experiments/prediction.py` define what this file computes; a
-- test drives both with the same input and finds no difference.
--
-- Loaded once per thread (lua-load-per-thread), so threads never wait for each other and the
-- tables below need no lock. Arguments: the signing key's file and the routes' map file.

local key_file, map_file = ...

local BUCKETS = 10000
local SLOTS = 1 << 22
local MAX_UNIT_BYTES = 256
local NONE = '-'

-- Ten fields between `|`, see serving.routes.map_value. The salt comes last and may be anything.
local ROUTE = '^(%d+)|(%d+)|([%d-]+)|([^|]+)|([%d-]+)|([%d-]+)|([%d-]+)|([%d-]+)|([^|]+)|(.*)$'

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
local key -- in base64, as the hmac converter takes it; converters exist only within a request

local function signed(txn, text)
    local conv = txn.c
    key = key or conv:base64(raw_key)
    return conv:bytes(conv:hmac(text, 'sha256', key), 0, 16)
end

-- Everything about one side of a route that is the same for each of its requests.
local function side(model, version, fallback, experiment, stage, variant, mark)
    return {
        version = version,
        path = '/hosts/' .. model .. '/' .. version .. '/infer',
        fallback = '/hosts/' .. model .. '/' .. fallback .. '/infer',
        fallback_version = fallback,
        variant = variant,
        token = table.concat({model, version, experiment, stage, mark, ''}, '.'),
    }
end

local function parse(model, value)
    local epoch, champion, previous, experiment, stage, challenger, cut, deadline, unit, salt =
        value:match(ROUTE)
    if epoch == nil then
        return nil
    end
    -- A champion without a version to fall back to is simply asked again.
    local behind = previous == NONE and champion or previous
    local route = {value = value, epoch = epoch}
    if experiment == NONE then
        route.champion = side(model, champion, behind, NONE, NONE, nil, NONE)
        return route
    end
    route.experiment = experiment
    route.stage = stage
    route.cut = tonumber(cut)
    route.deadline = tonumber(deadline)
    route.header = unit:match('^header:(.+)$')
    route.prefix = salt .. '/'
    route.champion = side(model, champion, behind, experiment, stage, 'champion', 'c')
    route.challenger = side(model, challenger, champion, experiment, stage, 'challenger', 't')
    return route
end

-- Parsed routes by model. Only models that are in the map get here, so this stays small; the
-- raw value is compared on every request, so a new value takes effect with the next request.
local parsed = {}

local function lookup(model, value)
    local route = parsed[model]
    if route == nil or route.value ~= value then
        route = parse(model, value)
        parsed[model] = route
    end
    return route
end

-- 128 bits in hex. HAProxy's uuid is unique but its generator is not made to withstand guessing,
-- and the nonce decides the variant where each request is a unit: hence keyed.
local function nonce(txn)
    local conv = txn.c
    return conv:lower(conv:hex(signed(txn, txn.f:uuid())))
end

local function prediction_id(txn, token, slot, unique)
    local payload = token .. slot .. '.' .. os.time() .. '.' .. unique
    return payload .. '.' .. txn.c:ub64enc(signed(txn, payload))
end

-- Returns the side that the unit belongs to and its slot, or nil and why the request is refused.
local function assign(txn, route, unique)
    if route.experiment == nil then
        return route.champion, NONE
    end
    local unit = route.header and txn.f:req_fhdr(route.header, -1)
    local slot = NONE
    if unit == nil then
        unit = unique
    elseif unit == '' then
        return nil, 'unit_empty'
    elseif #unit > MAX_UNIT_BYTES then
        return nil, 'unit_too_long'
    else
        slot = txn.c:xxh32(route.prefix .. unit, 1) % SLOTS
    end
    if txn.c:xxh32(route.prefix .. unit, 0) % BUCKETS < route.cut then
        return route.challenger, slot
    end
    return route.champion, slot
end

-- In: txn.model, and txn.route, the model's value in the map. Out: the variables that
-- haproxy.cfg routes, stamps and logs with; or txn.refused, the code of a problem.
core.register_action('assign', {'http-req'}, function(txn)
    local route = lookup(txn:get_var('txn.model'), txn:get_var('txn.route'))
    if route == nil then
        txn:set_var('txn.refused', 'route_unreadable')
        return
    end
    local unique = nonce(txn)
    local chosen, slot = assign(txn, route, unique)
    if chosen == nil then
        txn:set_var('txn.refused', slot)
        return
    end
    txn:set_var('txn.epoch', route.epoch)
    txn:set_var('txn.version', chosen.version)
    txn:set_var('txn.path', chosen.path)
    txn:set_var('txn.fallback', chosen.fallback)
    txn:set_var('txn.fallback_version', chosen.fallback_version)
    txn:set_var('txn.prediction', prediction_id(txn, chosen.token, slot, unique))
    if chosen.variant ~= nil then
        txn:set_var('txn.experiment', route.experiment)
        txn:set_var('txn.stage', route.stage)
        txn:set_var('txn.variant', chosen.variant)
        txn:set_var('txn.slot', slot)
        if chosen == route.challenger then
            txn:set_var('txn.deadline', route.deadline)
        end
    end
end)

-- A pinned version is nobody's variant: it only gets a prediction id of its own.
core.register_action('pin', {'http-req'}, function(txn)
    local token = table.concat(
        {txn:get_var('txn.model'), txn:get_var('txn.version'), NONE, NONE, NONE, ''}, '.')
    txn:set_var('txn.prediction', prediction_id(txn, token, NONE, nonce(txn)))
end)

-- Ready means that at least one model has a route. HAProxy cannot count a map, and the map's file
-- is always written before the map itself. Reading it blocks, but it is one line of a local file.
core.register_action('ready', {'http-req'}, function(txn)
    local file = io.open(map_file, 'r')
    local line = file and file:read('l')
    if file then
        file:close()
    end
    txn:set_var('txn.ready', line ~= nil and line ~= '')
end)

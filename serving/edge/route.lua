-- What HAProxy's configuration language cannot say: which version gets this request.
--
-- `experiments/assignment.py` and `experiments/prediction.py` define what this file computes; a
-- test drives both with the same input and finds no difference.
--
-- Arguments: the signing key's file, the routes' map file, and the problem documents of bodies
-- that are too large, with and without a declared length.

local key_file, map_file, body_too_large, chunked_body_too_large = ...

local BUCKETS = 10000
local SLOTS = 1 << 22
local MAX_UNIT_BYTES = 256
local DRAINED_BYTES = 256 * 1024 * 1024
local NONE = '-'

-- Thirteen fields between `|`, see serving.routes.map_value. The salt comes last and may be
-- anything.
local NUMBER, WORD = '([%d-]+)|', '([^|]+)|'
local ROUTE = '^(%d+)|(%d+)|' .. NUMBER .. WORD .. NUMBER:rep(2) .. '([%d,-]+)|' .. NUMBER:rep(3)
    .. WORD:rep(2) .. '(.*)$'

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

local MARKS = {champion = 'c', challenger = 't', veteran = 'v'}

-- Everything about one side of a route that is the same for each of its requests.
local function side(model, version, fallback, route, variant)
    local mark = variant and MARKS[variant] or NONE
    local experiment, stage = route.experiment or NONE, route.stage or NONE
    return {
        version = version,
        path = '/hosts/' .. model .. '/' .. version .. '/infer',
        fallback = '/hosts/' .. model .. '/' .. fallback .. '/infer',
        fallback_version = fallback,
        variant = variant,
        token = table.concat({model, version, experiment, stage, mark, ''}, '.'),
    }
end

-- One for each challenger: what its units meet, below the floor and above it. A challenger that was
-- dropped has a minus before its version: its units belong to the control.
local function lanes(model, challengers, control, behind, route)
    local found = {}
    for dropped, version in challengers:gmatch('(%-?)(%d+)') do
        local lane = {}
        if dropped == '' then
            lane.challenger = side(model, version, control, route, 'challenger')
            -- Served like any challenger's; only who counts sees the difference.
            lane.veteran = side(model, version, control, route, 'veteran')
            lane.challenger.on_trial, lane.veteran.on_trial = true, true
        else
            lane.dropped = side(model, control, behind, route, 'veteran')
        end
        found[#found + 1] = lane
    end
    return found
end

-- The values of a header, `header:value,value`, by name.
local function parse_segments(route, segments)
    local header, values = segments:match('^([^:]+):(.+)$')
    if header == nil then
        return
    end
    local count = 0
    route.segment_header, route.segments = header, {}
    for value in values:gmatch('[^,]+') do
        count = count + 1
        route.segments[value] = count
    end
end

local function parse(model, value)
    local epoch, champion, previous, experiment, stage, control, challengers, floor, cut, deadline,
        unit, segments, salt = value:match(ROUTE)
    if epoch == nil then
        return nil
    end
    -- A champion without a version to fall back to is simply asked again.
    local behind = previous == NONE and champion or previous
    local route = {value = value, epoch = epoch}
    if experiment == NONE then
        route.champion = side(model, champion, behind, route, nil)
        return route
    end
    -- While some units are held back from the new champion, it answers for the old one.
    behind = control == champion and behind or champion
    route.experiment = experiment
    route.stage = stage
    route.floor = tonumber(floor)
    route.cut = tonumber(cut)
    route.deadline = tonumber(deadline)
    route.header = unit:match('^header:(.+)$')
    route.prefix = salt .. '/'
    route.champion = side(model, control, behind, route, 'champion')
    route.lanes = lanes(model, challengers, control, behind, route)
    parse_segments(route, segments)
    if #route.lanes == 0 then
        return nil
    end
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

-- Returns the side that the unit belongs to and its slot, or nil and why the request is refused.
local function assign(txn, route)
    if route.experiment == nil then
        return route.champion, NONE
    end
    local unit = route.header and txn.f:req_fhdr(route.header, -1)
    local slot = NONE
    if unit == nil then
        unit = txn:get_var('txn.nonce')
    elseif unit == '' then
        return nil, 'unit_empty'
    elseif #unit > MAX_UNIT_BYTES then
        return nil, 'unit_too_long'
    else
        slot = txn.c:xxh32(route.prefix .. unit, 1) % SLOTS
    end
    local keyed = route.prefix .. unit
    local bucket = txn.c:xxh32(keyed, 0) % BUCKETS
    if bucket >= route.cut then
        return route.champion, slot
    end
    local lane = route.lanes[#route.lanes == 1 and 1 or txn.c:xxh32(keyed, 2) % #route.lanes + 1]
    if lane.dropped then
        return lane.dropped, slot
    elseif bucket >= route.floor then
        return lane.challenger, slot
    end
    return lane.veteran, slot
end

-- Returns which of the declared segments the request is in; 0 if in none.
local function segment(txn, route)
    local value = route.segment_header and txn.f:req_fhdr(route.segment_header, -1)
    return value and route.segments[value] or 0
end

-- In: txn.model, and txn.route, the model's value in the map. Out: the variables that
-- haproxy.cfg routes, stamps and logs with; or txn.refused, the code of a problem.
core.register_action('assign', {'http-req'}, function(txn)
    local route = lookup(txn:get_var('txn.model'), txn:get_var('txn.route'))
    if route == nil then
        txn:set_var('txn.refused', 'route_unreadable')
        return
    end
    local chosen, slot = assign(txn, route)
    if chosen == nil then
        txn:set_var('txn.refused', slot)
        return
    end
    txn:set_var('txn.epoch', route.epoch)
    txn:set_var('txn.version', chosen.version)
    txn:set_var('txn.path', chosen.path)
    txn:set_var('txn.fallback', chosen.fallback)
    txn:set_var('txn.fallback_version', chosen.fallback_version)
    txn:set_var('txn.token', chosen.token)
    txn:set_var('txn.slot', slot)
    txn:set_var('txn.segment', segment(txn, route))
    if chosen.variant ~= nil then
        txn:set_var('txn.experiment', route.experiment)
        txn:set_var('txn.stage', route.stage)
        txn:set_var('txn.variant', chosen.variant)
        txn:set_var('txn.meets', chosen.on_trial and 'challenger' or 'champion')
        if chosen.on_trial then
            txn:set_var('txn.deadline', route.deadline)
        end
    end
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

-- Most clients send all of a body before they read an answer, and would see a broken connection
-- instead of one that came early: so what is refused is read to its end first, within reason.
local function refuse_body(name, document)
    core.register_service(name, 'http', function(applet)
        local drained = 0
        repeat
            local piece = applet:receive(65536)
            drained = drained + #piece
        until piece == '' or drained > DRAINED_BYTES
        applet:set_status(413)
        applet:add_header('content-type', 'application/problem+json')
        applet:add_header('content-length', #document)
        applet:start_response()
        applet:send(document)
    end)
end

refuse_body('body_too_large', body_too_large)
refuse_body('chunked_body_too_large', chunked_body_too_large)
